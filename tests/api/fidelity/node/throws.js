// Ends by an exception, with a handler that sees the end.
process.on('exit', (code) => console.log('exit', code, process.exitCode));
function deep(n) {
  if (n === 0)
    throw new RangeError('too deep', { cause: new Error('the cause') });
  deep(n - 1);
}
deep(3);

// The order of ends: beforeExit as long as there is work, then exit.
let rounds = 0;
process.on('beforeExit', (code) => {
  console.log('before', code);
  if (rounds++ < 2)
    setTimeout(() => console.log('round', rounds), 1);
});
process.on('exit', (code) => { console.log('exit', code); process.exitCode = 9; });
process.exitCode = 7;
process.nextTick(() => console.log('tick'));
Promise.resolve().then(() => console.log('promise'));
setImmediate(() => console.log('immediate'));
queueMicrotask(() => console.log('microtask'));
console.log('main');

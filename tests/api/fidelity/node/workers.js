// Worker threads in all their forms.
'use strict';
const { Worker, SHARE_ENV, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) {
  if (workerData === 'fails')
    throw new Error('in a worker');
  parentPort.postMessage([process.argv.slice(1), process.execArgv, Object.entries(process.env),
    Object.keys(require.cache), require.main && require.main.id, module.id, process.title, process.cwd(),
    Object.getOwnPropertyNames(process).length, new Error('here').stack]);
} else {
  const run = (name, options, file = __filename) => new Promise((resolve) => {
    const worker = new Worker(file, { workerData: name, ...options });
    worker.on('message', (message) => console.log(name, message));
    worker.on('error', (error) => console.log(name, error.stack));
    worker.on('exit', (code) => resolve(console.log(name, 'exit', code)));
  });
  (async () => {
    await run('plain', {});
    await run('arguments', { argv: ['a', 'b'], execArgv: ['--no-warnings'] });
    await run('environment', { env: { A: '1' } });
    await run('shared', { env: SHARE_ENV });
    await run('fails', {});
    await run('source', { eval: true },
              'console.log("eval", require.main, Object.keys(require.cache), process.argv.slice(1))');
  })();
}

// Asynchronous resources: kinds and order, whatever their numbers.
const { createHook, AsyncLocalStorage } = require('async_hooks');
const { writeSync } = require('fs');
createHook({
  init: (id, type) => writeSync(1, `init ${type}\n`),
}).enable();
const storage = new AsyncLocalStorage();
Promise.resolve().then(() => {});
setImmediate(() => process.nextTick(() => storage.run('stored', () => setTimeout(() => {
  writeSync(1, `${storage.getStore()}\n`);
}, 1))));

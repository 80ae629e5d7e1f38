// What console and inspect print, and errors in callbacks of the pool.
const fs = require('fs');
console.table([{ a: 1, b: 'x' }, { a: 2 }]);
console.group('group');
console.warn('%o %O %j %i %%', [1], { a: { b: {} } }, { c: 1 }, '7.5');
console.groupEnd();
console.dir({ nested: { very: { deep: { down: 1 } } } }, { depth: 0 });
console.assert(false, 'no');
console.count(); console.trace('traced');
console.log(require('util').inspect({ a: 1n, b: Symbol('s'), c: new Map([[1, 2]]) }, { colors: true }));
console.log(process.stdout.hasColors?.(), require('util').styleText?.('red', 'text'));
fs.readFile('/nothing', (error) => console.log(error.message));
require('fs/promises').readFile('/nothing').catch((error) => console.log(error.stack));
console.log(require('crypto').createHash('sha256').update('x').digest('hex'), require('zlib').gzipSync('x').length);
require('crypto').pbkdf2('a', 'b', 10, 8, 'sha1', (error, key) => console.log(key.toString('hex')));
try {
  require('assert').deepStrictEqual({ a: 1, b: [1] }, { a: 1, b: [2] });
} catch (error) {
  console.log(error.message);
}
new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
console.log(structuredClone(new Date(0)), typeof fetch, new URL('http://a/b?c').search);

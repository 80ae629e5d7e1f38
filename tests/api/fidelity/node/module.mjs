// An ES module as main: what it knows of itself, and its stack.
import fs, { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as local from './lib/local.mjs';
const require = createRequire(import.meta.url);
console.log(import.meta.url, Object.keys(import.meta), import.meta.dirname);
console.log(process.argv, process.execArgv, process.mainModule, require.main);
console.log(fs.readFileSync === readFileSync, local, await import('./lib/common.cjs'));
console.log(await import.meta.resolve('./lib/local.mjs'), this, typeof require, typeof module);
console.log(new Error('here').stack);
await null;
console.log(new Error('after').stack);
console.log(require('./lib/common.cjs'), Object.keys(require.cache));
process.on('exit', (code) => console.log('exit', code));
try {
  await import('./lib/nothing.mjs');
} catch (error) {
  console.log(error.code, error.message);
}

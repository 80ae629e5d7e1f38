// Kinds of the three streams, and what arrives on the first.
'use strict';
const fs = require('fs');
console.log([0, 1, 2].map((fd) => [fs.fstatSync(fd).isFile(), fs.fstatSync(fd).isFIFO()]));
console.log(process.stdin.constructor.name, process.stdout.constructor.name, process.stderr.constructor.name);
console.log(process.stdin.isTTY, process.stdout.isTTY, process.stdout.writableHighWaterMark, process.stdout._type);
process.stdin.setEncoding('utf8');
let text = '';
process.stdin.on('data', (more) => { text += more; });
process.stdin.on('end', () => {
  console.log(text.length, text.slice(0, 100));
  process.stdout.write('x'.repeat(200000) + '\n', () => process.exit(4));
});

process.setSourceMapsEnabled(true);
const map = { version: 3, sources: ['original.ts'], names: [], mappings: 'AAAA;AACA;AACA', sourcesContent: ['one\ntwo\nthree\n'] };
const code = 'function f() {\n  return new Error("mapped").stack;\n} module.exports = f();\n' +
  '//# sourceMappingURL=data:application/json;base64,' + Buffer.from(JSON.stringify(map)).toString('base64');
require('fs').writeFileSync('/tmp/mapped.js', code);
console.log(require('/tmp/mapped.js'));

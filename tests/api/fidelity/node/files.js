const fs = require('fs');
console.log(fs.readdirSync('.').sort(), fs.readFileSync(process.argv[2], 'utf8'), fs.statSync('in').mode.toString(8));
console.log(fs.lstatSync('identity.js').isSymbolicLink(), fs.lstatSync('exits.js').isSymbolicLink());
fs.writeFileSync('made.txt', 'x');
fs.writeFileSync('/sandbox/out/files/b', 'y');
for (const path of ['/sandbox/x', '/skill/x', '/sandbox/scripts/x', '/sandbox/input.json', '/.ready/x', '/.ready/node.cjs']) {
  try {
    fs.writeFileSync(path, 'z');
    console.log('wrote', path);
  } catch (error) {
    console.log(error.code, path);
  }
}
console.log(fs.realpathSync('/skill'), fs.readdirSync('/skill').length, fs.readdirSync('/'));
console.log(require('child_process').execFileSync('/skill/tool.sh').toString());

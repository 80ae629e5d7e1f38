const text = require('fs').readFileSync(0, 'utf8');
console.log(text.length, text.slice(0, 50));
require('child_process').spawnSync('cat', ['/proc/self/fd/0'], { stdio: 'inherit' });

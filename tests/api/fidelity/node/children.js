// Processes that the script starts: what they inherit.
'use strict';
const { execFileSync, execSync, fork, spawn, spawnSync } = require('child_process');
if (process.argv[2] === 'child') {
  process.send([process.argv.slice(1), process.execArgv, Object.entries(process.env).filter(([k]) => k !== 'NODE_CHANNEL_FD')]);
  process.disconnect();
} else {
  console.log(execSync('ulimit -a; umask; pwd; env; ls /proc/self/fd').toString());
  console.log(execFileSync(process.execPath, ['-p', '[process.execArgv, process.argv.length, process.env.NODE_OPTIONS]']).toString());
  console.log(spawnSync('sh', ['-c', 'echo out; echo err >&2; exit 3'], { stdio: 'inherit' }).status);
  console.log(spawnSync('sh', ['-c', 'kill -9 $$']).signal, spawnSync('/nothing').error.code);
  fork(__filename, ['child']).on('message', (message) => console.log('fork', message))
    .on('exit', (code) => {
      console.log('exit', code);
      spawn('cat', { stdio: ['pipe', 'inherit', 'inherit'] }).stdin.end('through a pipe\n');
    });
}

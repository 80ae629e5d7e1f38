const cluster = require('cluster');
if (cluster.isPrimary) {
  cluster.on('exit', (worker, code) => console.log('worker ended', code));
  cluster.fork({ GIVEN: 'yes' }).on('message', (message) => console.log(message));
} else {
  process.send([process.argv.slice(1), process.execArgv, process.env.GIVEN, require.main === module]);
  process.disconnect();
  process.exitCode = 5;
}

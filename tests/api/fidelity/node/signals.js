const names = ['SIGUSR2', 'SIGHUP', 'SIGINT', 'SIGTERM'];
const seen = [];
for (const name of [...names, 'SIGPIPE']) {
  process.on(name, (...args) => {
    if (seen.push(args) === names.length) {
      console.log(seen.sort());
      process.exit();
    }
  });
}
for (const name of names)
  process.kill(process.pid, name);
setTimeout(() => {}, 60000);

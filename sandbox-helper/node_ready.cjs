'use strict';
/*
 * node_ready.cjs - makes a Node.js that has started wait for its script.
 *
 * sandbox-stage (ready.c) executes
 *
 *     NODE_OPTIONS=--require=/.ready/node.cjs  node /dev/null/ready FD
 *
 * in a finished sandbox, confined as the script will be.  Node loads this file when all else is
 * done, and then looks up Module.runMain to run its main module.  That lookup is where it waits:
 * a getter that is there once says "r" on FD, reads the run (ready.h has its form), makes argv,
 * environment and working folder those of the run, and hands back runMain, bound to the
 * script's path.  A bound function has no stack frame, and the getter is gone: the script starts
 * from the same line of Node with the same stack, caches and globals as by `node script.js`.  A
 * version that does not look there never says "r", and is not used this way.
 *
 * Until it waits it runs, with nothing behind it, what scripts run first: Node compiles its own
 * functions when they are called, which is most of what a short script costs.  Nothing here may
 * leave a trace, touch process.stdout and its kin, or need the thread pool, whose size is the
 * run's to choose.
 *
 * Worker threads load the file again, since they inherit the options: it must be there, and then
 * does nothing.
 */
if (process.argv[1] === '/dev/null/ready') {
  const fs = require('fs');
  const Module = module.constructor;
  const runMain = Object.getOwnPropertyDescriptor(Module, 'runMain');
  const control = Number(process.argv[2]);
  const env = process.env;

  /* All up to the end of the stream, as words.  "" when the other end has died in the middle. */
  const receive = (fd) => {
    const { StringDecoder } = require('string_decoder');
    const decoder = new StringDecoder('utf8');
    const buffer = Buffer.allocUnsafeSlow(65536);
    let text = '';
    let n;
    while ((n = fs.readSync(fd, buffer, 0, buffer.length, null)) > 0)
      text += decoder.write(buffer.subarray(0, n));
    fs.closeSync(fd);
    return (text + decoder.end()).split('\0');
  };

  /* Their order is the run's as well.  Those that are right are left: to set TZ is expensive. */
  const setEnvironment = (words) => {
    const names = Object.keys(env);
    let same = 0;
    for (const word of words) {
      const name = names[same];
      if (name === undefined || word !== `${name}=${env[name]}`)
        break;
      same++;
    }
    for (let i = same; i < names.length; i++)
      delete env[names[i]];
    for (let i = same; i < words.length; i++) {
      const at = words[i].indexOf('=');
      env[words[i].slice(0, at)] = words[i].slice(at + 1);
    }
  };

  /* Returns the script's path. */
  const become = (words) => {
    const args = words.slice(3, 3 + Number(words[0]));
    const variables = words.slice(3 + args.length, 3 + args.length + Number(words[1]));
    if (args.length === 0 || words[3 + args.length + variables.length] !== 'end')
      process.reallyExit(0); /* nobody needs this one any more */
    process.chdir(words[2]);
    setEnvironment(variables);
    process.argv.length = 1;
    process.argv.push(...args);
    return args[0];
  };

  /* Without colours: what decides about them looks at process.stderr as soon as it is loaded. */
  const warmConsole = (handle) => {
    const { Socket } = require('net');
    const stream = new Socket({ handle, readable: false, writable: true });
    const { log, error } = new console.Console({ stdout: stream, stderr: stream, colorMode: false });
    log('text');
    log('%s %d', 'text', 1, { a: [1, 'b', null, { c: true }] });
    error(new Error('text'));
  };

  const warmStdin = () => {
    const nothing = {
      open() {},
      close() {},
      read(fd, buffer, offset, length, position, done) { done(null, 0, buffer); },
    };
    const stream = new fs.ReadStream(null, { fd: 0, autoClose: false, fs: nothing });
    stream.setEncoding('utf8');
    stream.on('data', () => {}).on('end', () => {});
  };

  /* What is left of all this is collected now: it would be soon, and by then the script waits. */
  const collectYoung = () => {
    const { getHeapSpaceStatistics } = require('v8');
    const used = () => getHeapSpaceStatistics()
      .find((space) => space.space_name === 'new_space').space_used_size;
    let before = 0;
    let now = used();
    for (let i = 0; i < 5000 && now >= before; i++) {
      before = now;
      new Array(1000).fill(0);
      now = used();
    }
  };

  const warmUp = () => {
    const handle = {
      close() {}, getAsyncId() { return 0; }, readStart() {}, readStop() {}, setBlocking() {},
      shutdown() {}, writeLatin1String() { return 0; }, writeUtf8String() { return 0; },
    };
    for (const name of ['child_process', 'crypto', 'fs/promises', 'os'])
      require(name);
    warmConsole(handle);
    warmStdin();
    fs.readFileSync(__filename, 'utf8');
    fs.writeFileSync('/dev/null', '');
    JSON.stringify(JSON.parse('{"a":[1,"b"]}'), null, 2);
    try {
      runMain.value(process.argv[1]);
    } catch {
      /* no such file: as far as it leaves nothing behind */
    }
    import('data:text/javascript,').then(() => {}, () => {});
    process._tickCallback(); /* what was put off comes now, not in the script's first tick */
    setEnvironment(Object.keys(env).map((name) => `${name}=${env[name]}`));
    receive(fs.openSync(__filename));
    process.chdir('/');
    collectYoung();
    /^/.exec(''); /* RegExp.$1 and its kin, as Node leaves them */
  };

  Object.defineProperty(Module, 'runMain', {
    configurable: true,
    enumerable: true,
    get() {
      Object.defineProperty(Module, 'runMain', runMain);
      warmUp();
      fs.writeSync(control, 'r');
      return runMain.value.bind(Module, become(receive(control)));
    },
  });
}
delete require.cache[__filename];
delete module.constructor._pathCache[`${__filename}\0`];

// What a script can see of how it was started.
'use strict';
const fs = require('fs');
const Module = require('module');
const show = (name, value) => console.log(name, value);

show('argv', process.argv);
show('argv0', [process.argv0, process.execPath, process.title]);
show('execArgv', process.execArgv);
show('environment', process.env);
show('cwd', [process.cwd(), process.umask(), __filename, __dirname]);
show('main', [require.main === module, process.mainModule === module, module.id, module.parent, module.loaded]);
show('module', module);
show('paths', [module.paths, Module.globalPaths, require.resolve.paths('x')]);
show('cache', [Object.keys(require.cache), Object.keys(Module._pathCache), Object.keys(require.extensions)]);
show('Module', Object.getOwnPropertyNames(Module));
show('runMain', Object.getOwnPropertyDescriptor(Module, 'runMain'));
show('globals', Object.getOwnPropertyNames(globalThis));
show('process', Object.getOwnPropertyNames(process));
for (const name of ['argv', 'argv0', 'env', 'execArgv', 'mainModule', 'stdin', 'stdout', 'stderr', 'exitCode'])
  show(name, Object.keys(Object.getOwnPropertyDescriptor(process, name) ?? {}));
show('events', [process.eventNames(), process.listenerCount('exit')]);
show('async ids', [require('async_hooks').executionAsyncId(), require('async_hooks').triggerAsyncId()]);
show('regexp', [RegExp.$1, RegExp.lastMatch, RegExp.input, RegExp.leftContext]);
show('stack', new Error('here').stack);
show('stack limit', Error.stackTraceLimit);
show('prepare', [Error.prepareStackTrace, Object.getOwnPropertyNames(Error)]);
show('heap', [require('v8').getHeapStatistics().heap_size_limit, process.constrainedMemory?.()]);
show('ids', [process.ppid, process.getuid(), process.getgroups()]);
show('locale', [Intl.DateTimeFormat().resolvedOptions(), new Date(0).toString(), (1234.5).toLocaleString()]);
show('this', [this === module.exports, typeof arguments, arguments.length]);
show('descriptors', fs.readdirSync('/proc/self/fd').map((fd) => {
  try {
    return [fd, fs.readlinkSync(`/proc/self/fd/${fd}`).replace(/\d{2,}/, 'N')];
  } catch (error) {
    return [error.code];
  }
}));
show('next descriptor', fs.openSync('/dev/null'));
for (const fd of [0, 1, 2])
  show(`descriptor ${fd}`, fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').match(/^(pos|flags):.*$/gm));
show('status', fs.readFileSync('/proc/self/status', 'utf8')
  .match(/^(Umask|State|Uid|Gid|Groups|Threads|ShdPnd|Sig...|Cap...|NoNewPrivs|Seccomp\w*):.*$/gm));
show('limits', fs.readFileSync('/proc/self/limits', 'utf8'));
show('session', fs.readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ').slice(1, 2));

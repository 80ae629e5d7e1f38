import os from 'os';
console.log(import.meta.url, typeof os.cpus, process.argv.slice(1));
throw new TypeError('from a module');

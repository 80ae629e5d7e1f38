process.emitWarning('be careful', 'CustomWarning', 'C001');
new Buffer(1);
process.on('warning', (warning) => console.log(warning.name, warning.code));
const emitter = new (require('events'))();
for (let i = 0; i < 12; i++)
  emitter.on('x', () => {});

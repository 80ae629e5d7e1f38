setTimeout(() => { null.property; }, 1);
process.on('uncaughtExceptionMonitor', (error, origin) => console.log(error.message, origin));

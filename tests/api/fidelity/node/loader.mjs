// Customization hooks run in a thread of their own, which loads the preload as well.
import * as module from 'node:module';
if (module.register) {
  module.register('data:text/javascript,' + encodeURIComponent(
    'export async function resolve(name, context, next) {' +
    '  return name === "virtual:x" ? { url: "data:text/javascript,export default 42", shortCircuit: true } : next(name, context);' +
    '}'));
  console.log((await import('virtual:x')).default);
}
console.log('done');

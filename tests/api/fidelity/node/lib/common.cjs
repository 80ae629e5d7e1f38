exports.filename = __filename;
exports.parent = module.parent && module.parent.id;
exports.stack = new Error('required').stack;

console.log(__filename, require.main.filename, process.argv[1], module.paths[0]);

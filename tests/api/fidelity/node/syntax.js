console.log('never');
let 1x = 2;

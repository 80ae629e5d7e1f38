const http = require('http');
const server = http.createServer((request, response) => response.end(request.url)).listen(0, '127.0.0.1', () => {
  http.get({ port: server.address().port, path: '/path', agent: false }, (response) => {
    response.on('data', (data) => console.log(response.statusCode, data.toString()));
    response.on('end', () => server.close());
  });
});
require('dns').lookup('localhost', { family: 4 }, (error, address) => console.log('lookup', error, address));

Promise.reject(5);
await new Promise((resolve) => setTimeout(resolve, 50));

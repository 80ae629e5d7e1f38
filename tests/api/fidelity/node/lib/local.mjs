export const value = 1;
export default import.meta.url;

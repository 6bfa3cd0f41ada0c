// Files of the page, fetched.

/** Fetch a file that must be there. */
export async function fetchFile(url, options = {}) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${url}: the server says ${response.status}`);
  return response;
}

/** Fetch a file until `signal` aborts, telling how many of its bytes have come. */
export async function download(url, signal, onProgress) {
  const response = await fetchFile(url, { signal });
  const parts = [];
  let numBytes = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    onProgress((numBytes += value.length));
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// Blocks of columns, as replay/report/columns.py writes them. Nothing here knows what they mean.

const SAFE = 2 ** 53;

// Return the bytes of a block that stands in the page, inflated; its text is let go of.
async function inflated(id) {
  const element = document.getElementById(id);
  const bytes = fromBase64(element.textContent);
  element.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes;
}

async function readDocument(id) {
  return JSON.parse(new TextDecoder().decode(await inflated(id)));
}

// Return {header, bytes} of a block; `numbers` takes columns out of it.
async function readBlock(id) {
  const bytes = await inflated(id);
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  return { header, bytes: bytes.subarray(4 + size) };
}

// Return an array of `count` numbers: as narrow as their bytes allow, BigInts only where they must be.
function numbers(block, told, count) {
  const kind = told[0];
  if (kind === "k") return constant(told[1], count);
  const [, at, size] = told;
  const width = size / count;
  const planes = block.bytes.subarray(at, at + size);
  if (kind === "b") return bigNumbers(planes, width, count);
  const raw = joined(planes, width, count);
  if (kind === "d") return summed(raw, told[3]);
  const [, , , low, step] = told;
  if (low === 0 && step === 1) return raw;
  const found = new Float64Array(count);
  for (let i = 0; i < count; i++) found[i] = low + raw[i] * step;
  return found;
}

function constant(value, count) {
  if (typeof value === "string") return new Array(count).fill(BigInt(value));
  const found = value >= 0 && value < 256 ? new Uint8Array(count) : new Float64Array(count);
  return value ? found.fill(value) : found;
}

function joined(planes, width, count) {
  if (width === 1) return planes;
  const found =
    width === 2 ? new Uint16Array(count) : width <= 4 ? new Uint32Array(count) : new Float64Array(count);
  for (let plane = width - 1; plane >= 0; plane--) {
    const from = plane * count;
    if (width <= 4) {
      const shift = 8 * plane;
      for (let i = 0; i < count; i++) found[i] |= planes[from + i] << shift;
    } else {
      for (let i = 0; i < count; i++) found[i] = found[i] * 256 + planes[from + i];
    }
  }
  return found;
}

function summed(raw, first) {
  const found = new Float64Array(raw.length);
  let value = first;
  found[0] = first;
  for (let i = 1; i < raw.length; i++) {
    const zigzag = raw[i];
    value += zigzag % 2 ? -(zigzag + 1) / 2 : zigzag / 2;
    found[i] = value;
  }
  return found;
}

function bigNumbers(planes, width, count) {
  const found = new BigUint64Array(count);
  for (let plane = width - 1; plane >= 0; plane--) {
    for (let i = 0; i < count; i++) found[i] = (found[i] << 8n) | BigInt(planes[plane * count + i]);
  }
  return found;
}

// Return a function from a row to its value: a number, BigInt, string, null, or an atom's array.
function column(block, told, count, atoms) {
  if (told[0] === "n") {
    const missing = numbers(block, told[1], count);
    const values = numbers(block, told[2], count);
    return (row) => (missing[row] ? null : values[row]);
  }
  if (told[0] === "a") {
    const ids = numbers(block, told[1], count);
    return (row) => atoms[ids[row]];
  }
  const values = numbers(block, told, count);
  return (row) => values[row];
}

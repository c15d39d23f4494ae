// One button: it puts a link on the clipboard, or saves a picture as PNG with the design in a text chunk of it.
const SCALE = 2, MOST_PIXELS = 40e6;

function byHand(text, place) { // where the page is not served safely, it has no clipboard of its own
  const field = document.createElement("textarea");
  field.value = text;
  place.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("refused");
}

async function copy(data, place) {
  try {
    if (navigator.clipboard && window.isSecureContext) await navigator.clipboard.writeText(data.text);
    else byHand(data.text, place);
    return "Link copied";
  } catch {
    window.prompt("The browser does not let this page copy. Copy the link from here:", data.text);
    return "";
  }
}

function crc(bytes) {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ -1) >>> 0;
}

function withText(png, text) { // an iTXt chunk behind the header: keyword, not packed, no language, the text
  const encoder = new TextEncoder(), body = encoder.encode("iTXthybridlab\0\0\0\0\0" + text);
  const chunk = new Uint8Array(body.length + 8), view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc(body));
  const end = 8 + 12 + new DataView(png.buffer).getUint32(8);
  return new Blob([png.slice(0, end), chunk, png.slice(end)], { type: "image/png" });
}

async function picture(data) {
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(data.svg);
  await image.decode();
  const scale = Math.min(SCALE, Math.sqrt(MOST_PIXELS / (data.width * data.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(data.width * scale));
  canvas.height = Math.max(1, Math.round(data.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (!blob) throw new Error("too large");
  const file = withText(new Uint8Array(await blob.arrayBuffer()), data.text);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = data.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return "Saved";
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button"), said = parentElement.querySelector("span");
  if (!button.dataset.told) button.textContent = data.label;
  button.title = data.help;
  button.onclick = async () => {
    let words = "This picture could not be made";
    try { words = await (data.svg ? picture(data) : copy(data, parentElement)); } catch (error) { console.warn(error); }
    if (!words) return;
    button.textContent = said.textContent = button.dataset.told = words;
    setTimeout(() => { button.textContent = data.label; said.textContent = button.dataset.told = ""; }, 2500);
  };
  return () => {};
}

// The rotating map on Home: draws `props.cloud`, the words of a model as points in three dimensions.
const SECONDS_PER_TURN = 90;
const MAX_LABELS = 12;
const DISTANCE = 3; // of the camera, in radii of the cloud
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d");
const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
let cloud;
let isVisible = false;
let frame = 0;

function floats(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer);
}

function draw(time) {
  frame = 0;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!cloud || !width) return;
  const sharpness = Math.min(devicePixelRatio || 1, 2);
  if (canvas.width !== Math.round(width * sharpness) || canvas.height !== Math.round(height * sharpness)) {
    [canvas.width, canvas.height] = [Math.round(width * sharpness), Math.round(height * sharpness)];
  }
  pen.setTransform(sharpness, 0, 0, sharpness, 0, 0);
  pen.clearRect(0, 0, width, height);
  const angle = isStill ? 0.6 : (time / 1000 / SECONDS_PER_TURN) * 2 * Math.PI;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const spread = Math.min(0.6 * height, 0.38 * width);
  const project = (i) => {
    const depth = cloud.x[i] * sin + cloud.z[i] * cos; // toward the camera
    const zoom = DISTANCE / (DISTANCE - depth);
    const across = cloud.x[i] * cos - cloud.z[i] * sin;
    return [width / 2 + 1.35 * spread * across * zoom, height / 2 - spread * cloud.y[i] * zoom, depth];
  };
  cloud.colors.forEach((color, i) => {
    const [x, y, depth] = project(i);
    const nearness = Math.max(0, Math.min(1, (depth + 1) / 2));
    pen.globalAlpha = 0.25 + 0.65 * nearness;
    pen.fillStyle = color;
    const size = 1.2 + 1.6 * nearness;
    pen.fillRect(x - size / 2, y - size / 2, size, size);
  });
  label(cloud.labels.map(([i, text]) => [text, ...project(i)]));
  schedule();
}

// Draws the labels in front, nearest first, without overlaps.
function label(words) {
  const style = getComputedStyle(canvas);
  pen.font = `13px ${style.fontFamily}`;
  [pen.fillStyle, pen.strokeStyle, pen.lineWidth, pen.lineJoin] = [style.color, style.backgroundColor, 4, "round"];
  const taken = [];
  for (const [text, x, y, depth] of words.sort((a, b) => b[3] - a[3])) {
    if (taken.length === MAX_LABELS || depth < 0.1) break;
    const half = pen.measureText(text).width / 2 + 6;
    const box = [x - half, y - 14, x + half, y + 14];
    const isFree = taken.every((other) => box[0] > other[2] || other[0] > box[2] || box[1] > other[3] || other[1] > box[3]);
    if (!isFree || box[0] < 0 || box[2] > canvas.clientWidth || box[1] < 0 || box[3] > canvas.clientHeight) continue;
    taken.push(box);
    pen.globalAlpha = Math.min(1, (depth - 0.1) / 0.25);
    pen.strokeText(text, x - half + 6, y - 4);
    pen.fillText(text, x - half + 6, y - 4);
  }
}

function schedule() {
  if (isVisible && !frame && !isStill) frame = requestAnimationFrame(draw);
}

function load() {
  const sent = props.cloud ? JSON.parse(props.cloud) : null;
  cloud = sent && { ...sent, x: floats(sent.x), y: floats(sent.y), z: floats(sent.z) };
  canvas.dataset.points = cloud ? cloud.x.length : 0;
  if (!frame) frame = requestAnimationFrame(draw);
}

new IntersectionObserver(([entry]) => {
  isVisible = entry.isIntersecting;
  schedule();
}).observe(canvas);
new ResizeObserver(() => {
  if (!frame) frame = requestAnimationFrame(draw);
}).observe(canvas);
watch("cloud", load);
load();

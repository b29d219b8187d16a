// The user's documents on the map. Each is at the weighted mean of its nearest words, in every layout.
const DOCUMENT_RADIUS = 7; // pixels

let documents; // { model, texts, groups, names, palette, near, weights, n_near }

function readDocuments() {
  documents = props.documents ? JSON.parse(props.documents) : undefined;
  if (documents) {
    for (const name of ["near", "groups"]) documents[name] = decode(documents[name], Int32Array);
    documents.weights = decode(documents.weights, Float32Array);
  }
  redraw();
}

const shownDocuments = () => (documents && documents.model === points?.model ? documents.texts : []);

function documentPixel(index, { toX, toY }) {
  let [x, y] = [0, 0];
  for (let place = index * documents.n_near; place < (index + 1) * documents.n_near; place++) {
    x += documents.weights[place] * points.x[documents.near[place]];
    y += documents.weights[place] * points.y[documents.near[place]];
  }
  return [toX(x), toY(y)];
}

function drawDocuments(canvas, ring) {
  const [pen, at] = [clearedPen(canvas), projection()];
  [pen.strokeStyle, pen.lineWidth] = [ring, 2];
  shownDocuments().forEach((_, index) => {
    pen.beginPath();
    pen.arc(...documentPixel(index, at), DOCUMENT_RADIUS, 0, 2 * Math.PI);
    pen.fillStyle = documents.palette[documents.groups[index]];
    pen.fill();
    pen.stroke();
  });
  frame.dataset.documents = shownDocuments().length;
}

// The document under a pixel, the topmost of several; -1 for none.
function documentAt([px, py]) {
  const at = projection();
  return shownDocuments().findLastIndex((_, index) => {
    const [x, y] = documentPixel(index, at);
    return Math.hypot(x - px, y - py) <= DOCUMENT_RADIUS + 1;
  });
}

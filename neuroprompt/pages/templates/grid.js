const record = JSON.parse(document.getElementById("neuroprompt").textContent);
const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
const place = (b) => ["row", "index", "column"].map((key) => Number(b.dataset[key]));
// Pictures of one seed follow one another, so that an arrow key changes the method and nothing else.
const pictures = [...document.querySelectorAll(".pictures button")].sort((a, b) => {
  const [p, q] = [place(a), place(b)];
  return p[0] - q[0] || p[1] - q[1] || p[2] - q[2];
});
let at = 0;

function show(i) {
  at = i;
  const [row, index, column] = place(pictures[at]);
  const cell = record.rows[row].cells[column], picture = cell.pictures[index];
  const image = pictures[at].querySelector("img");
  const scores = Object.entries(picture.scores).map(([name, value]) => `${name} ${value?.toPrecision(4) ?? "–"}`);
  const seed = picture.seed === null ? [] : [`seed ${picture.seed}`];
  large.src = image.src;
  large.alt = image.alt;
  dialog.querySelector("strong").textContent = record.columns[column];
  dialog.querySelector("p").textContent = cell.text;
  dialog.querySelector("small").textContent = [...seed, ...scores].join(" · ");
  if (!dialog.open) dialog.showModal();
}

function rowAway(step) {
  const [row, index, column] = place(pictures[at]);
  for (let r = row + step; r >= 0 && r < record.rows.length; r += step) {
    const i = pictures.findIndex((b) => place(b).join() === [r, index, column].join());
    if (i >= 0) return i;
  }
  return at;
}

pictures.forEach((button, i) => button.addEventListener("click", () => show(i)));
dialog.addEventListener("click", () => dialog.close());
dialog.querySelector("div").addEventListener("click", (event) => event.stopPropagation());
dialog.addEventListener("close", () => pictures[at].focus());
dialog.addEventListener("keydown", (event) => {
  const next = {
    ArrowRight: () => Math.min(at + 1, pictures.length - 1),
    ArrowLeft: () => Math.max(at - 1, 0),
    ArrowDown: () => rowAway(1),
    ArrowUp: () => rowAway(-1),
  }[event.key];
  if (!next) return;
  event.preventDefault();
  show(next());
});

// Lay a graph out in layers: what is needed stands left of what needs it.
//
// Longest paths give the layers, long edges pass through stand-ins, and a few sweeps by the mean of
// the neighbours keep crossings few. Pure: names and edges in, coordinates out.

const SWEEPS = 12;

/** Return the layer of each node: one more than the highest of those it needs. */
export function layers(names, edges) {
  const needs = new Map(names.map((name) => [name, []]));
  for (const { from, to } of edges) needs.get(from)?.push(to);
  const found = new Map();
  for (const name of names) {
    const stack = [name];
    const open = new Set();
    while (stack.length) {
      const top = stack.at(-1);
      if (found.has(top)) {
        stack.pop();
        continue;
      }
      open.add(top);
      // Whatever is open already would close a circle: it does not count.
      const missing = needs.get(top).filter((one) => needs.has(one) && !found.has(one) && !open.has(one));
      if (missing.length) {
        stack.push(...missing);
        continue;
      }
      const below = needs.get(top).filter((one) => found.has(one)).map((one) => found.get(one));
      found.set(top, below.length ? Math.max(...below) + 1 : 0);
      open.delete(top);
      stack.pop();
    }
  }
  return found;
}

function mean(numbers, otherwise) {
  return numbers.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : otherwise;
}

/** Lay out; return {nodes: Map(name → {x, y}), lines: [{edge, points}], columns, rows}. */
export function layout(names, edges) {
  const at = layers(names, edges);
  const columns = [];
  const put = (id, layer) => (columns[layer] ??= []).push(id);
  for (const name of [...names].sort()) put(name, at.get(name));
  const chains = [];
  const near = new Map();
  const tie = (a, b) => {
    for (const [one, other] of [[a, b], [b, a]]) near.set(one, [...(near.get(one) ?? []), other]);
  };
  edges.forEach((edge, number) => {
    if (!at.has(edge.from) || !at.has(edge.to) || edge.from === edge.to) return;
    const chain = [edge.to];
    const [low, high] = [at.get(edge.to), at.get(edge.from)];
    for (let layer = low + 1; layer < high; layer++) {
      const id = `\n${number}.${layer}`;
      put(id, layer);
      chain.push(id);
    }
    chain.push(edge.from);
    for (let i = 1; i < chain.length; i++) tie(chain[i - 1], chain[i]);
    chains.push([edge, chain]);
  });
  const y = new Map();
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  for (const column of columns) column.forEach((id, i) => y.set(id, i + (tallest - column.length) / 2));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const order = sweep % 2 ? [...columns].reverse() : columns;
    for (const column of order) settle(column, y, near);
  }
  const least = Math.min(...y.values());
  const layerOf = new Map(columns.flatMap((column, layer) => column.map((id) => [id, layer])));
  const point = (id) => ({ x: layerOf.get(id), y: y.get(id) - least });
  return {
    nodes: new Map(names.map((name) => [name, point(name)])),
    lines: chains.map(([edge, chain]) => ({ edge, points: chain.map(point) })),
    columns: columns.length,
    rows: Math.max(...y.values()) - least + 1,
  };
}

/** Move the nodes of a column to the middle of their neighbours, a row apart from each other. */
function settle(column, y, near) {
  const wish = new Map(column.map((id) => [id, mean((near.get(id) ?? []).map((one) => y.get(one)), y.get(id))]));
  column.sort((a, b) => wish.get(a) - wish.get(b) || (a < b ? -1 : 1));
  let free = -Infinity;
  for (const id of column) {
    y.set(id, Math.max(wish.get(id), free));
    free = y.get(id) + 1;
  }
  const shift = mean(column.map((id) => wish.get(id) - y.get(id)), 0);
  for (const id of column) y.set(id, y.get(id) + shift);
}

// The chart of the rates, instead of the still one: uPlot draws the numbers of the table below it. Dragging over it zooms, a double click shows all of
// it, and so do buttons, for who drags nothing. Its colors are those of the still chart, which stays in the page for that.

const chart = document.getElementById('chart');
const plot = document.getElementById('chart-plot');
const buttons = document.getElementById('chart-zoom');
const rows = [...document.querySelectorAll('#chart-numbers tbody tr')];
const column = name => rows.map(row => (name in row.dataset ? Number(row.dataset[name]) : null));
const times = column('at');
const whole = { min: times[0], max: times[times.length - 1] };
const language = document.documentElement.lang;
const zone = chart.dataset.zone;
const clock = new Intl.DateTimeFormat(language, { timeZone: zone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const day = new Intl.DateTimeFormat(language, { timeZone: zone, day: '2-digit', month: '2-digit' });
const number = new Intl.NumberFormat(language);

const color = name => () => getComputedStyle(document.querySelector(`#chart-still ${name}`)).stroke;
const axis = more => ({ stroke: () => getComputedStyle(chart).color, grid: { stroke: color('.grid'), width: 1 }, ticks: { stroke: color('.grid') }, font: '12px system-ui', ...more });
const range = document.getElementById('chart-range');
const when = seconds => `${day.format(seconds * 1000)} ${clock.format(seconds * 1000)}`;

const shown = new uPlot({
  width: plot.clientWidth,
  height: 280,
  tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), zone),
  hooks: { setScale: [(u, key) => { if (key === 'x') range.textContent = `${when(u.scales.x.min)} – ${when(u.scales.x.max)}`; }] },
  cursor: { drag: { x: true, y: false } },
  scales: { ms: { range: (u, min, max) => [0, Math.max(1, max ?? 1) * 1.1] }, y: { range: (u, min, max) => [0, Math.max(1, max ?? 1) * 1.1] } },
  axes: [
    axis({ values: (u, splits, space, room, step) => splits.map(at => (step >= 86400 ? day : clock).format(at * 1000)) }),
    axis({ values: (u, splits) => splits.map(n => (Number.isInteger(n) ? number.format(n) : '')), size: 60 }),
    axis({ scale: 'ms', side: 1, grid: { show: false }, values: (u, splits) => splits.map(n => `${number.format(n)} ms`), size: 70 }),
  ],
  series: [
    { label: chart.dataset.time, value: (u, at) => (at == null ? '–' : when(at)) },
    { label: chart.dataset.sent, stroke: color('.sent'), width: 2, points: { show: false }, value: said('') },
    { label: chart.dataset.failed, stroke: color('.failed'), width: 2, dash: [6, 4], points: { show: false }, value: said('') },
    { label: chart.dataset.p95, scale: 'ms', stroke: () => getComputedStyle(chart).color, width: 1, dash: [2, 3], spanGaps: true, value: said(' ms') },
  ],
}, [times, column('sent'), column('failed'), column('p95')], plot);

document.getElementById('chart-still').hidden = true;
document.getElementById('chart-hint').hidden = false;
buttons.hidden = false;
buttons.addEventListener('click', (event) => {
  const { zoom, move } = event.target.dataset;
  const { min, max } = shown.scales.x;
  const width = zoom === '0' ? whole.max - whole.min : (max - min) * Number(zoom ?? 1);
  const middle = (min + max) / 2 + (max - min) * Number(move ?? 0);
  const from = Math.min(Math.max(middle - width / 2, whole.min), Math.max(whole.min, whole.max - width));
  shown.setScale('x', { min: from, max: Math.min(from + width, whole.max) });
});
new ResizeObserver(() => shown.setSize({ width: plot.clientWidth, height: 280 })).observe(plot);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => shown.redraw());

function said(unit) {
  return (u, n) => (n == null ? '–' : number.format(n) + unit);
}

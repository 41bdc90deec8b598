// Bars by hour, stacked, drawn by uPlot from the numbers that the page carries; the same numbers stand in a table.
"use strict";
(() => {
  const plots = new Map();

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // A variable holds a pair of colours; what an element would be drawn in is the one of the scheme that is on.
  const colour = (name) => {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const money = (value) => {
    const places = Math.abs(value) >= 10 || value === 0 ? 2 : Math.abs(value) >= 0.01 ? 4 : 6;
    return "$" + value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  };
  const axisMoney = (value) => "$" + value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  const plain = (value) => value.toLocaleString("en-US");
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);

  // Each series as the sum of those below it and itself: drawn from the tallest down, they stand on each other.
  const stacked = (values) => {
    const sums = [];
    values.forEach((series, at) => sums.push(series.map((value, i) => Math.max(0, value) + (at ? sums[at - 1][i] : 0))));
    return sums;
  };

  const tooltip = (chart) => {
    let box = null;
    return {
      hooks: {
        init: (u) => {
          box = document.createElement("div");
          box.className = "tip";
          box.hidden = true;
          u.over.append(box);
        },
        setCursor: (u) => {
          const at = u.cursor.idx;
          box.hidden = at == null || u.cursor.left < 0;
          if (box.hidden) return;
          const form = chart.unit === "usd" ? money : plain;
          const lines = chart.names.map((name, i) => [name, chart.values[i][at]]).filter(([, value]) => value);
          if (chart.names.length > 1) lines.push(["Total", lines.reduce((sum, [, value]) => sum + value, 0)]);
          box.replaceChildren(...[[clock(chart.hours[at]) + " UTC", ""], ...lines.map(([n, v]) => [n, form(v)])].map(
            ([label, value]) => {
              const line = document.createElement("div");
              const left = document.createElement("span");
              const right = document.createElement("span");
              left.textContent = label;
              right.textContent = value;
              line.append(left, right);
              return line;
            }));
          const x = u.valToPos(chart.hours[at], "x");
          box.classList.toggle("flip", x > u.over.clientWidth / 2);
          box.style.transform = `translate(${Math.round(x)}px, 0)`;
        },
      },
    };
  };

  const draw = (holder) => {
    const source = document.getElementById(`data-${holder.dataset.chart}`);
    if (!source) return;
    const chart = JSON.parse(source.textContent);
    const sums = stacked(chart.values);
    const last = sums.length - 1;
    const series = sums.map((_, i) => ({
      label: chart.names[last - i],
      fill: colour(`--series-${chart.colours[last - i]}`),
      stroke: colour(`--series-${chart.colours[last - i]}`),
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars({ size: [0.62, 28], radius: i === 0 ? 0.12 : 0 }),
    }));
    const axis = {
      stroke: colour("--muted"),
      font: `11px ${variable("--font")}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      border: { show: false },
    };
    const form = chart.unit === "usd" ? axisMoney : plain;
    plots.get(holder)?.destroy();
    plots.set(holder, new uPlot({
      width: holder.clientWidth,
      height: 190,
      padding: [8, 18, 0, 0], // half of the last hour's label stands to the right of its bar
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: (_, low, high) => [low - 1800, high + 1800] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 56, values: (_, ticks) => ticks.map(clock) },
        { ...axis, size: 58, space: 36, incrs: chart.unit === "count" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] : undefined, values: (_, ticks) => ticks.map(form) },
      ],
      series: [{}, ...series],
      plugins: [tooltip(chart)],
    }, [chart.hours, ...sums.reverse()], holder));
  };

  const drawAll = () => {
    for (const holder of plots.keys()) {
      if (!holder.isConnected) {
        plots.get(holder).destroy();
        plots.delete(holder);
      }
    }
    document.querySelectorAll(".plot").forEach(draw);
  };

  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => plots.forEach((plot, holder) => plot.setSize({ width: holder.clientWidth, height: 190 })));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("themechange", drawAll);
  document.addEventListener("chartschange", drawAll);
  requestAnimationFrame(() => setTimeout(drawAll)); // after the numbers have been painted
})();

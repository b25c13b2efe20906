// What a process or a guest with Node does (see memories.py): objects and their text, some of which change, come and go.
'use strict';

let state = 7;
// Numbers below `end`, the same ones in each run (a linear congruential generator).
function draw(end) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * end);
}

function make(number) {
    const values = Array.from({ length: 20 }, () => draw(1e6));
    return { number, values, name: `item ${number} ${values.join('-')}`, seen: 0 };
}

const items = Array.from({ length: 60000 }, (_, i) => make(i));
const texts = new Map(items.filter((each) => each.number % 3 === 0).map((each) => [each.number, JSON.stringify(each)]));
let next = items.length;
require('fs').writeFileSync('done', '');

setInterval(() => {
    for (let i = 0; i < 8; i++) {
        items[draw(items.length)].seen++;
        items[draw(1000)] = make(next++);
        const old = items[draw(items.length)];
        texts.set(old.number, JSON.stringify(old));
        texts.delete(draw(next));
    }
}, 200);

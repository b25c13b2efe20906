#!/bin/busybox sh
# What a guest with busybox only does (see memories.py): `memory_work.sh SEED LINES`. It has a log of so many lines, which
# grows, is packed and begun anew, what was sorted out of it, and a table of as many rows, some of which change.
seed=$1 lines=$2

awk -v lines="$lines" -v seed="$seed" '
    function row() { return int(rand() * 1e6) " " int(rand() * 1e6) " page " int(rand() * 1e3) " of guest " seed }
    BEGIN {
        srand(seed)
        for (i = 0; i < lines; i++) { table[i] = row(); print i, table[i] >"log" }
        close("log")
        system("sort -k 3 -n log >sorted; gzip -c sorted >sorted.gz; cp sorted sorted.before; touch done")
        for (;;) {
            for (i = 0; i < 30; i++) {
                # Half of them in a small part of the table.
                k = int(rand() * (rand() < 0.5 ? lines : lines / 50))
                table[k] = row()
                print k, table[k] >>"log"
            }
            close("log")
            system("sleep 0.2")
        }
    }' &

until [ -e done ]; do sleep 0.2; done
for i in 1 2 3 4 5 6 7 8 9; do
    sleep 10
    mv log log.$i
    sort -k 4 -n log.$i | tail -n 20000 >sorted
    gzip log.$i
done
wait

#!/bin/busybox sh
# The only script in a test guest. The kernel's command line sets $guest, its number, and $work (1, 2, ..): odd works
# are done on files, even ones on tables. What that leaves in memory stays until the dump is taken.

/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t tmpfs tmp /tmp
cd /tmp || exit

# Writes $1 lines of words; the same ones for the same seed $2.
text() {
    awk -v lines="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        count = split("page frame hint zero share guest memory balloon idle scan hash write copy kernel", word, " ")
        for (i = 1; i <= lines; i++)
            print i, word[int(rand() * count) + 1], word[int(rand() * count) + 1], int(rand() * 1e6)
    }'
}

files() {
    sort -k 4 -n words >sorted
    gzip -c words >words.gz
    tar -cf archive.tar words sorted
    mkdir backup
    cp words sorted words.gz backup
    head -c 4000000 /dev/urandom >noise
    md5sum words sorted noise >sums
    touch done
}

tables() {
    yes "the same sixty-four bytes over and over, page after page, yes.." | head -c 8000000 >repeated
    grep 'share guest' words >found
    awk '{ last[$2 " " $3 " " int($4 / 100)] = $0 } END { for (each in last) print last[each] }' words >grouped
    # This one goes on with a large table in its heap, so that the dump has it.
    awk '{ line[$1] = $0; with[$4] = with[$4] " " $1 } END { system("touch done; sleep 900") }' words common &
}

if [ -e /software ]; then
    # Somebody else's guest, which has its own.
    (/software || reboot -f) &
else
    text 30000 0 >common # every guest has this file
    text 60000 "$work" >words
    if [ $((work % 2)) = 1 ]; then files; else tables; fi
fi
while [ ! -e done ]; do sleep 0.1; done
echo "guest $guest is ready"

# Whoever started this takes the dumps and ends the machine. If they are gone, it ends itself.
sleep 600
reboot -f

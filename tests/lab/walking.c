/* Reads and writes static memory here and there, for test_recorder.py: says where that begins and ends. */
#include <stdio.h>

static unsigned char memory[4 << 20];

int main(void) {
    unsigned long at = 1, sum = 0, most = sizeof memory;
    printf("%lx %lx\n", (unsigned long)memory, (unsigned long)memory + most - 1);
    for (int step = 0; step < 5000; step++) {
        at = (at * 1103515245 + 12345) % (1u << 31);
        unsigned long place = (at >> 4) % most;
        if (place % 3 == 0)
            memory[place] = 1;
        else if (place < most / 2)
            sum += memory[place];
    }
    printf("%lu\n", sum);
    return 0;
}

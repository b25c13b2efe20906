# What a process or a guest with Perl does (see memories.py): a table of records by name, some of which change, come and go.
use strict;
use warnings;

srand 3;
my %table;
my $next = 0;

sub record {
    return { number => int rand 1e6, words => [ map { 'w' . int rand 5000 } 1 .. 8 ], text => join ' ', map { int rand 1e9 } 1 .. 20 };
}

$table{ 'name' . $next++ } = record() for 1 .. 25_000;
open my $done, '>', 'done' or die;
close $done;
while (1) {
    select undef, undef, undef, 0.2;
    for (1 .. 2) {
        $table{ 'name' . $next++ } = record();
        delete $table{ 'name' . int rand $next };
        my $recent = $table{ 'name' . ( $next - int rand 2000 ) };
        $recent->{number}++ if $recent;
    }
}

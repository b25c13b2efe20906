# A catalogue of linked documents, in phases: ruby -r ./ruby_work.so ruby_work.rb SECONDS
#
# 48,000 documents on 40 shelves, each with a dozen words and links to others (some 80 MiB). Requests look at documents
# of a few shelves, follow their links and put together an answer, which is garbage at once; the collector runs when
# Ruby sees fit. Between the busy phases there are quiet ones with few requests, in which the program collects now and
# then while nobody waits, as servers in Ruby do ("out of band").
#
# The collector runs in the thread that works. It marks all that lives, in bitmaps beside the objects, and sweeps.

SHELVES = 40
DOCUMENTS = 1200
WORDS = 12
RANDOM = Random.new(1)

class Document
  attr_reader :title, :words, :links, :body
  attr_accessor :read

  def initialize(shelf, number)
    @title = "#{shelf}/#{number}"
    @words = Array.new(WORDS) { |at| "w#{shelf}.#{RANDOM.rand(500)}.#{at}" }
    @body = "x" * 300
    @links = []
    @read = 0
  end
end

def shelf(number)
  made = Array.new(DOCUMENTS) { |at| Document.new(number, at) }
  made.each { |document| 4.times { document.links << made[RANDOM.rand(DOCUMENTS)] } }
  made
end

def answer(documents)
  first = documents[RANDOM.rand(documents.size)]
  first.read += 1
  found = [first, *first.links].map { |document| "#{document.title}: #{document.words.join(" ")}" }
  found.join("\n") + first.body
end

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

# Requests to some shelves for a time, so many a second, with a full collection now and then if asked for.
def serve(seconds, shelves, rate:, collect: nil)
  begun = collected = now
  number = 0
  while (passed = now - begun) < seconds
    answer(shelves[RANDOM.rand(shelves.size)])
    number += 1
    if collect && now - collected > collect
      GC.start
      collected = now
    end
    # What comes late is not made up for.
    number = [number, (rate * passed).to_i].max
    sleep([number / rate.to_f - (now - begun), 0].max)
  end
end

part = ARGV.fetch(0).to_f / 100
world = Array.new(SHELVES) { |number| shelf(number) }
serve(15 * part, world[0...5], rate: 150)
serve(15 * part, world[0...1], rate: 2, collect: 6 * part)
serve(16 * part, world[5...25], rate: 250)
serve(16 * part, world[25...26], rate: 2, collect: 10 * part)
# A quarter is dropped, and some of it made anew.
(0...10).each { |number| world[number] = nil }
GC.start
(0...5).each { |number| world[number] = shelf(number) }
serve(14 * part, world[0...3] + world[30...38], rate: 200)
serve(14 * part, world[39...40], rate: 2, collect: 8 * part)

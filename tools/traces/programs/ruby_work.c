/* Tells the recorder when Ruby's collector runs: an extension that is loaded with `ruby -r`. */
#include <ruby.h>
#include <ruby/debug.h>
#include <unistd.h>

#define MAGIC 0x7061676573686172L
enum { CALL = 39, WORK = 0, COLLECT = 2 };

/* Every piece of a collection is between these two: marking, and what is swept later as room is needed. */
static void told(VALUE point, void *unused)
{
    (void)unused;
    int enters = rb_tracearg_event_flag(rb_tracearg_from_tracepoint(point)) == RUBY_INTERNAL_EVENT_GC_ENTER;
    syscall(CALL, MAGIC, enters ? COLLECT : WORK);
}

void Init_ruby_work(void)
{
    rb_event_flag_t events = RUBY_INTERNAL_EVENT_GC_ENTER | RUBY_INTERNAL_EVENT_GC_EXIT;
    VALUE point = rb_tracepoint_new(Qnil, events, told, NULL);
    rb_gc_register_mark_object(point);
    rb_tracepoint_enable(point);
}

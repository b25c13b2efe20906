import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * An application server in small: java Sessions SECONDS.
 *
 * Sessions of users and a table of products live on the heap, about 50 MiB. Requests come from a few sessions at a time
 * and allocate what dies young; sessions end and others begin. Parts of the day are quiet: then, every 15 seconds, a
 * housekeeping thread asks for a full collection, as servers do that give memory back when idle (and as JDK 12 and
 * later can by G1PeriodicGCInterval). It marks and moves everything that lives, though nothing of it is in use.
 */
public final class Sessions {
    private static final int SESSIONS = 2000, PRODUCTS = 40000;
    private static final Random RANDOM = new Random(1);

    private static final class Product {
        final String name;
        final long[] prices = new long[40];

        Product(int number) {
            name = "product " + number + " of the catalogue";
        }
    }

    private static final class Session {
        final byte[][] state = new byte[64][];
        final List<Product> basket = new ArrayList<>();

        Session() {
            for (int i = 0; i < state.length; i++) state[i] = new byte[200];
        }
    }

    private static final Product[] products = new Product[PRODUCTS];
    private static final Session[] sessions = new Session[SESSIONS];
    private static volatile boolean idle;

    /** One request: reads its session and some products, writes a part of the session, and makes an answer. */
    private static int answer(int which, int firstProduct, int manyProducts) {
        Session session = sessions[which];
        StringBuilder page = new StringBuilder();
        for (int i = 0; i < 20; i++) {
            Product product = products[firstProduct + RANDOM.nextInt(manyProducts)];
            page.append(product.name).append(' ').append(product.prices[RANDOM.nextInt(40)]).append('\n');
            if (i == 0) {
                product.prices[RANDOM.nextInt(40)]++;
                session.basket.add(product);
                if (session.basket.size() > 10) session.basket.clear();
            }
        }
        session.state[RANDOM.nextInt(64)] = page.toString().getBytes();
        if (RANDOM.nextInt(500) == 0) sessions[which] = new Session();
        return page.length();
    }

    private static long serve(double seconds, double perSecond, int firstSession, int manySessions, int firstProduct,
            int manyProducts) throws InterruptedException {
        long begin = System.nanoTime(), end = begin + (long) (seconds * 1e9), sum = 0;
        for (int number = 0; System.nanoTime() < end; number++) {
            sum += answer(firstSession + RANDOM.nextInt(manySessions), firstProduct, manyProducts);
            long due = begin + (long) (number / perSecond * 1e9) - System.nanoTime();
            if (due > 0) Thread.sleep(due / 1000000, (int) (due % 1000000));
        }
        return sum;
    }

    private static void rest(double seconds) throws InterruptedException {
        idle = true;
        Thread.sleep((long) (seconds * 1000));
        idle = false;
    }

    public static void main(String[] arguments) throws InterruptedException {
        double part = Double.parseDouble(arguments[0]) / 100;
        for (int i = 0; i < PRODUCTS; i++) products[i] = new Product(i);
        for (int i = 0; i < SESSIONS; i++) sessions[i] = new Session();
        Thread housekeeping = new Thread(() -> {
            try {
                for (;;) {
                    Thread.sleep((long) (3100 * part));
                    if (idle) System.gc();
                }
            } catch (InterruptedException end) {
                return;
            }
        }, "housekeeping");
        housekeeping.setDaemon(true);
        housekeeping.start();
        long sum = serve(22 * part, 150, 0, 300, 0, PRODUCTS / 10);
        rest(20 * part);
        sum += serve(15 * part, 400, 0, SESSIONS, 0, PRODUCTS);
        sum += serve(12 * part, 100, 500, 100, PRODUCTS / 2, PRODUCTS / 10);
        rest(18 * part);
        sum += serve(10 * part, 200, 1000, 500, 0, PRODUCTS / 4);
        System.out.println(sum);
    }
}

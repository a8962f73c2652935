import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Path;

/** HiveMQ Community Edition on the configuration, data and extensions in one folder. */
public final class Broker {
    public static void main(final String[] args) throws Exception {
        final Path folder = Path.of(args[0]);
        final EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
                .withConfigurationFolder(folder.resolve("conf"))
                .withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions"))
                .build();
        broker.start().join();
        System.out.println("serving");
        Thread.currentThread().join();
    }
}

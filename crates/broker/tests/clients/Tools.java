import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Exit;

/**
 * The Java client against any broker, by way of Kafka's own command-line tools. All run in this one JVM, because each
 * start of one costs seconds. Arguments: bootstrap address, then names of tests, or none for all.
 * With `copy-member` as the first argument it is one member of the copy that `copies` kills.
 */
public class Tools {
    static String bootstrap;
    static final String RUN = Long.toHexString(System.nanoTime() & 0xffffffffL);
    static final PrintStream OUT = System.out;

    /** Thrown where a tool would end the process. */
    static class Exited extends RuntimeException {
        final int code;

        Exited(int code) {
            super("exit " + code);
            this.code = code;
        }
    }

    record Ended(int code, String out) {
        Ended says(String... parts) {
            for (String part : parts) {
                if (!Pattern.compile(part, Pattern.DOTALL).matcher(out).find()) {
                    throw new AssertionError("/" + part + "/ is not in:\n" + (out.length() > 3000 ? "..." + out.substring(out.length() - 3000) : out));
                }
            }
            return this;
        }

        Ended isSilentOn(String part) {
            if (out.contains(part)) {
                throw new AssertionError(part + " is in:\n" + out);
            }
            return this;
        }

        Ended ok() {
            if (code != 0) {
                throw new AssertionError("exit code " + code + ":\n" + out);
            }
            return this;
        }

        Ended fails() {
            if (code == 0) {
                throw new AssertionError("exit code 0:\n" + out);
            }
            return this;
        }
    }

    /** Runs a tool's main with `--bootstrap-server` and collects what it prints. */
    static Ended tool(String name, String... arguments) {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(arguments));
        return plain(name, "", all.toArray(new String[0]));
    }

    static Ended plain(String name, String input, String... arguments) {
        return plain(name, input, 0, arguments);
    }

    /** `lines`: how many the tool must have printed; some go on in the background when their main is over. */
    static Ended plain(String name, String input, long lines, String... arguments) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream out = new PrintStream(bytes, true);
        int[] first = {-1};
        Exit.setExitProcedure((code, message) -> {
            if (message != null) {
                out.println(message);
            }
            if (first[0] < 0) {
                first[0] = code;
            }
            throw new Exited(code);
        });
        // What a tool does when its process ends, such as printing its summary.
        List<Runnable> hooks = new ArrayList<>();
        Exit.setShutdownHookAdder((hook, run) -> hooks.add(run));
        System.setIn(new ByteArrayInputStream(input.getBytes()));
        System.setOut(out);
        System.setErr(out);
        try {
            String type = name.startsWith("kafka.") ? name : "org.apache.kafka.tools." + name;
            try {
                Class.forName(type).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException e) {
                if (!(e.getCause() instanceof Exited)) {
                    e.getCause().printStackTrace(out);
                    first[0] = 99;
                }
            }
            for (int i = 0; i < 150 && bytes.toString().lines().count() < lines; i++) {
                pause(100);
            }
            hooks.forEach(Runnable::run);
        } catch (ReflectiveOperationException e) {
            throw new AssertionError(e);
        } finally {
            System.setOut(OUT);
            System.setErr(OUT);
        }
        return new Ended(Math.max(first[0], 0), bytes.toString());
    }

    static String topic(String name) {
        return name + "-" + RUN;
    }

    static void eventually(String what, BooleanSupplier done) {
        Instant deadline = Instant.now().plusSeconds(15);
        while (!done.getAsBoolean()) {
            if (Instant.now().isAfter(deadline)) {
                throw new AssertionError("waited for too long: " + what);
            }
            pause(100);
        }
    }

    static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    static void create(String topic, int partitions) {
        tool("TopicCommand", "--create", "--topic", topic, "--partitions", "" + partitions).ok();
        eventually(topic + " is there", () -> tool("GetOffsetShell", "--topic", topic).out.lines().filter(l -> l.startsWith(topic)).count() == partitions);
    }

    static void topicsAndConfigs() {
        String t = topic("tools");
        tool("TopicCommand", "--create", "--topic", t, "--partitions", "3", "--config", "retention.ms=7000000").ok().says("Created topic");
        tool("TopicCommand", "--create", "--topic", t).fails().says("already exists");
        tool("TopicCommand", "--create", "--topic", t, "--if-not-exists").ok();
        tool("TopicCommand", "--list").ok().says(t);
        tool("TopicCommand", "--describe", "--topic", t).ok().says("PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=7000000", "Partition: 2\\s+Leader: \\d+\\s+Replicas: \\d+\\s+Isr: \\d+");
        tool("TopicCommand", "--alter", "--topic", t, "--partitions", "5").ok();
        eventually("five partitions", () -> tool("TopicCommand", "--describe", "--topic", t).out.contains("PartitionCount: 5"));
        tool("TopicCommand", "--alter", "--topic", t, "--partitions", "2").fails();
        tool("TopicCommand", "--describe", "--topic", topic("none")).fails().says("does not exist");
        String configs = "kafka.admin.ConfigCommand";
        tool(configs, "--alter", "--entity-type", "topics", "--entity-name", t, "--add-config", "segment.ms=123456,max.message.bytes=100000").ok().says("Completed updating");
        eventually("settings", () -> tool(configs, "--describe", "--entity-type", "topics", "--entity-name", t).out.contains("segment.ms=123456"));
        tool(configs, "--describe", "--entity-type", "topics", "--entity-name", t).ok().says("max.message.bytes=100000", "retention.ms=7000000");
        tool(configs, "--describe", "--all", "--entity-type", "topics", "--entity-name", t).ok().says("cleanup.policy=delete", "DYNAMIC_TOPIC_CONFIG:segment.ms=123456");
        tool(configs, "--alter", "--entity-type", "topics", "--entity-name", t, "--delete-config", "segment.ms").ok();
        eventually("a setting is gone", () -> !tool(configs, "--describe", "--entity-type", "topics", "--entity-name", t).out.contains("segment.ms"));
        tool(configs, "--alter", "--entity-type", "topics", "--entity-name", t, "--add-config", "segment.ms=soon").fails().says("Invalid value");
        tool(configs, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1").ok().says("num.partitions=4");
        tool("TopicCommand", "--delete", "--topic", t).ok();
        eventually("it is gone", () -> !tool("TopicCommand", "--list").out.contains(t));
        tool("BrokerApiVersionsCommand").ok().says("Produce\\(0\\): 0 to", "\\(id: 1 rack: ");
        plain("ClusterTool", "", "cluster-id", "--bootstrap-server", bootstrap).ok().says("Cluster ID: \\S+");
    }

    static void consoleAndOffsets() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String t = topic("console-" + codec);
            create(t, 1);
            plain("ConsoleProducer", "h:1,i:2\tk\tv\nNULL\tNULL\tno key\nNULL\tgone\tNULL\n" + IntStream.range(0, 300).mapToObj(i -> "NULL\tk" + i + "\tvalue " + i + "\n").collect(Collectors.joining()),
                "--bootstrap-server", bootstrap, "--topic", t, "--compression-codec", codec, "--property", "parse.key=true", "--property", "parse.headers=true", "--property", "null.marker=NULL").ok();
            Ended read = tool("consumer.ConsoleConsumer", "--topic", t, "--from-beginning", "--max-messages", "303", "--timeout-ms", "15000",
                "--property", "print.key=true", "--property", "print.headers=true", "--property", "print.offset=true", "--property", "null.literal=null").ok();
            read.says("Offset:0\th:1,i:2\tk\tv\n", "Offset:1\tNO_HEADERS\tnull\tno key\n", "Offset:2\tNO_HEADERS\tgone\tnull\n", "Offset:302\tNO_HEADERS\tk299\tvalue 299\n");
            // From the middle of a batch.
            tool("consumer.ConsoleConsumer", "--topic", t, "--partition", "0", "--offset", "157", "--max-messages", "1", "--timeout-ms", "15000").ok().says("^value 154\n");
            tool("GetOffsetShell", "--topic", t).ok().says(t + ":0:303");
            tool("GetOffsetShell", "--topic", t, "--time", "earliest").ok().says(t + ":0:0");
            tool("GetOffsetShell", "--topic", t, "--time", "max-timestamp").ok().says(t + ":0:\\d+");
            tool("GetOffsetShell", "--topic", t, "--time", "1").ok().says(t + ":0:0");
        }
        String t = topic("console-none");
        Path file = Files.createTempFile("delete", ".json");
        Files.writeString(file, "{\"version\": 1, \"partitions\": [{\"topic\": \"" + t + "\", \"partition\": 0, \"offset\": 100}]}");
        tool("DeleteRecordsCommand", "--offset-json-file", file.toString()).ok().says("low_watermark: 100");
        Files.delete(file);
        tool("GetOffsetShell", "--topic", t, "--time", "earliest").ok().says(t + ":0:100");
        tool("consumer.ConsoleConsumer", "--topic", t, "--from-beginning", "--max-messages", "1", "--timeout-ms", "15000").ok().says("^value 97\n");
        tool("LogDirsCommand", "--describe", "--topic-list", t).ok().says("\"partition\":\"" + t + "-0\"", "\"size\":[1-9]");
    }

    static void groups() {
        String t = topic("groups"), g = topic("group");
        create(t, 2);
        Ended produced = plain("VerifiableProducer", "", 1001, "--topic", t, "--bootstrap-server", bootstrap, "--max-messages", "1000", "--acks", "-1", "--repeating-keys", "20").ok();
        produced.says("startup_complete").isSilentOn("producer_send_error");
        if (produced.out.lines().filter(line -> line.contains("producer_send_success")).count() != 1000) {
            throw new AssertionError(produced.out);
        }
        plain("VerifiableConsumer", "", "--topic", t, "--bootstrap-server", bootstrap, "--group-id", g, "--max-messages", "1000", "--reset-policy", "earliest").ok()
            .says("partitions_assigned", "\"name\":\"offsets_committed\"", "\"success\":true").isSilentOn("\"success\":false");
        String groups = "consumer.group.ConsumerGroupCommand";
        tool(groups, "--list").ok().says(g);
        tool(groups, "--list", "--state").ok().says(g + "\\s+(Empty|Stable)");
        tool("GroupsCommand", "--list").ok().says(g + "\\s+Classic\\s+consumer");
        tool(groups, "--describe", "--group", g).ok().says(g + "\\s+" + t + "\\s+0\\s+\\d+\\s+\\d+\\s+0\\s");
        // A member of its own, so that there is something to be seen while it is in.
        try (KafkaConsumer<String, String> consumer = consumer(g, Map.of("group.instance.id", "static-one", "client.id", "watcher"))) {
            consumer.subscribe(List.of(t));
            eventually("an assignment", () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
            tool(groups, "--describe", "--group", g, "--members", "--verbose").ok().says(g + "\\s+static-one-\\S+\\s+static-one\\s+/127.0.0.1\\s+watcher\\s+2", t + "(:0,1|\\(0,1\\))");
            tool(groups, "--describe", "--group", g, "--state").ok().says(g + "\\s+\\S+\\s+\\(1\\)\\s+range\\s+Stable\\s+1");
            tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--execute").says("is inactive");
            tool(groups, "--delete", "--group", g).says("not empty|NonEmpty");
        }
        eventually("no members", () -> {
            // A static member stays until its session ends; an administrator can send it away.
            try (var admin = org.apache.kafka.clients.admin.Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                admin.removeMembersFromConsumerGroup(g, new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions()).all().get();
            } catch (Exception e) {
                throw new AssertionError(e);
            }
            return tool(groups, "--describe", "--group", g, "--state").out.contains("Empty");
        });
        tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--dry-run").ok().says(g + "\\s+" + t + "\\s+0\\s+0");
        tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--execute").ok();
        tool(groups, "--describe", "--group", g).ok().says(t + "\\s+0\\s+0\\s+");
        tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--shift-by", "5", "--execute").ok().says(t + "\\s+1\\s+5");
        tool(groups, "--reset-offsets", "--group", g, "--topic", t + ":0", "--to-offset", "17", "--execute").ok().says(t + "\\s+0\\s+17");
        tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--to-datetime", "2020-01-01T00:00:00.000", "--execute").ok().says(t + "\\s+0\\s+0");
        tool(groups, "--reset-offsets", "--group", g, "--topic", t, "--to-latest", "--execute").ok();
        tool(groups, "--delete-offsets", "--group", g, "--topic", t + ":0").ok().says(t + "\\s+0\\s+Successful");
        tool(groups, "--describe", "--group", g).ok().says(t + "\\s+1\\s").isSilentOn("Error");
        tool(groups, "--delete", "--group", g).ok().says("successful");
        tool(groups, "--list").ok().isSilentOn(g);
        tool(groups, "--describe", "--group", topic("none")).says("does not exist|not found");
    }

    static void performanceAndTransactions() {
        String t = topic("perf");
        create(t, 2);
        plain("ProducerPerformance", "", "--topic", t, "--num-records", "5000", "--record-size", "250", "--throughput", "-1", "--producer-props", "bootstrap.servers=" + bootstrap, "compression.type=lz4").ok().says("5000 records sent");
        plain("ProducerPerformance", "", "--topic", t, "--num-records", "2000", "--record-size", "250", "--throughput", "5000", "--transactional-id", topic("perf"), "--transaction-duration-ms", "50",
            "--producer-props", "bootstrap.servers=" + bootstrap).ok().says("2000 records sent");
        Ended read = tool("ConsumerPerformance", "--topic", t, "--messages", "7000", "--timeout", "15000").ok();
        // The column nMsg.
        read.says(", 7\\d\\d\\d, ");
        tool("TransactionsCommand", "list").ok().says(topic("perf") + "\\s+\\d+\\s+\\d+\\s+CompleteCommit");
        tool("TransactionsCommand", "describe", "--transactional-id", topic("perf")).ok().says("CompleteCommit");
        try (KafkaProducer<String, String> producer = transactional(topic("open"), Map.of())) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(t, 0, "k", "v"));
            producer.flush();
            tool("TransactionsCommand", "describe", "--transactional-id", topic("open")).ok().says("Ongoing", t + "-0");
            tool("TransactionsCommand", "describe-producers", "--topic", t, "--partition", "0").ok().says("ProducerId");
            tool("TransactionsCommand", "find-hanging", "--broker-id", "1").ok().isSilentOn(t);
            producer.abortTransaction();
        }
        tool("consumer.ConsoleConsumer", "--topic", t, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "7000", "--timeout-ms", "15000").ok();
    }

    static KafkaConsumer<String, String> consumer(String group, Map<String, Object> more) {
        Map<String, Object> settings = new TreeMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "isolation.level", "read_committed", "session.timeout.ms", "6000", "heartbeat.interval.ms", "500"));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static KafkaProducer<String, String> transactional(String id, Map<String, Object> more) {
        Map<String, Object> settings = new TreeMap<>(Map.of("bootstrap.servers", bootstrap, "transactional.id", id, "transaction.timeout.ms", "10000"));
        settings.putAll(more);
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    /** One member of a group that copies a topic exactly once until it is killed: source, sink, its name. */
    static void copyMember(String source, String sink, String name) {
        KafkaConsumer<String, String> consumer = consumer(source, Map.of());
        KafkaProducer<String, String> producer = transactional(name, Map.of());
        producer.initTransactions();
        consumer.subscribe(List.of(source));
        while (true) {
            var records = consumer.poll(Duration.ofMillis(200));
            if (records.isEmpty()) {
                continue;
            }
            try {
                producer.beginTransaction();
                records.forEach(r -> producer.send(new ProducerRecord<>(sink, r.key(), r.value())));
                producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
                producer.commitTransaction();
            } catch (ProducerFencedException e) {
                System.exit(1);
            } catch (KafkaException e) {
                producer.abortTransaction();
                var committed = consumer.committed(consumer.assignment());
                committed.forEach((partition, offset) -> consumer.seek(partition, offset == null ? 0 : offset.offset()));
            }
        }
    }

    static Process member(String source, String sink, String name) throws Exception {
        return new ProcessBuilder(ProcessHandle.current().info().command().orElse("java"), "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", System.getProperty("java.class.path"),
            System.getProperty("tools.source"), "copy-member", bootstrap, source, sink, name).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
    }

    static void copies() throws Exception {
        String source = topic("java-source"), sink = topic("java-sink");
        create(source, 4);
        create(sink, 4);
        int count = 3000;
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer())) {
            IntStream.range(0, count).forEach(i -> producer.send(new ProducerRecord<>(source, "" + i % 97, "" + i)));
        }
        List<Process> members = new ArrayList<>();
        try {
            members.add(member(source, sink, topic("java-a")));
            members.add(member(source, sink, topic("java-b")));
            List<Integer> values = new ArrayList<>();
            try (KafkaConsumer<String, String> reader = consumer(topic("java-reader"), Map.of())) {
                reader.assign(IntStream.range(0, 4).mapToObj(p -> new TopicPartition(sink, p)).toList());
                Instant deadline = Instant.now().plusSeconds(90);
                boolean killed = false;
                while (Instant.now().isBefore(deadline) && values.size() < count) {
                    reader.poll(Duration.ofMillis(200)).forEach(r -> values.add(Integer.parseInt(r.value())));
                    if (!killed && values.size() > 100) {
                        killed = true;
                        // SIGKILL, and another with the same transactional id in its place.
                        members.get(0).destroyForcibly().waitFor();
                        members.set(0, member(source, sink, topic("java-a")));
                    }
                }
                // Nothing may come after what is expected.
                IntStream.range(0, 5).forEach(i -> reader.poll(Duration.ofMillis(200)).forEach(r -> values.add(Integer.parseInt(r.value()))));
            }
            if (values.size() != count || values.stream().distinct().count() != count) {
                throw new AssertionError(values.size() + " records, " + values.stream().distinct().count() + " distinct, of " + count);
            }
        } finally {
            members.forEach(Process::destroyForcibly);
        }
    }

    interface Test {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("copy-member")) {
            bootstrap = arguments[1];
            copyMember(arguments[2], arguments[3], arguments[4]);
            return;
        }
        bootstrap = arguments[0];
        Map<String, Test> tests = new TreeMap<>(Map.of("topics-and-configs", Tools::topicsAndConfigs, "console-and-offsets", Tools::consoleAndOffsets,
            "groups", Tools::groups, "performance-and-transactions", Tools::performanceAndTransactions, "copies", Tools::copies));
        List<String> chosen = List.of(arguments).subList(1, arguments.length);
        int failed = 0;
        for (var test : tests.entrySet()) {
            if (!chosen.isEmpty() && !chosen.contains(test.getKey())) {
                continue;
            }
            Instant started = Instant.now();
            try {
                test.getValue().run();
                OUT.printf("ok %s %.1fs%n", test.getKey(), Duration.between(started, Instant.now()).toMillis() / 1000.0);
            } catch (Throwable e) {
                failed++;
                OUT.println("FAILED " + test.getKey());
                e.printStackTrace(OUT);
            }
        }
        // Tools leave threads and hooks behind.
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }
}

// What keeps its state in compacted topics, as it uses them: Kafka Connect's three topics and the topics of Kafka Streams,
// created with the settings that those give them, filled through the Java client, and read back as they read them at a
// start: from the beginning to the end, the last value of each key counts.
//
//   Compacted HOST:PORT write    creates and fills the topics
//   Compacted HOST:PORT read     reads them back and fails when a value is not the last one

import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.serialization.*;

public class Compacted {
    static final int ROUNDS = 300, KEYS = 20;
    /** A topic, its partitions and what is set on it. Small segments, so that there is something to clean. */
    record Wanted(String name, int partitions, Map<String, String> settings) {}

    static Map<String, String> settings(String... pairs) {
        Map<String, String> all = new TreeMap<>(Map.of("segment.bytes", "16384", "min.cleanable.dirty.ratio", "0.01"));
        for (int i = 0; i < pairs.length; i += 2) all.put(pairs[i], pairs[i + 1]);
        return all;
    }

    static final List<Wanted> TOPICS = List.of(
        // Kafka Connect, distributed (TopicAdmin.defineTopic).
        new Wanted("connect-configs", 1, settings("cleanup.policy", "compact")),
        new Wanted("connect-offsets", 25, settings("cleanup.policy", "compact")),
        new Wanted("connect-status", 5, settings("cleanup.policy", "compact")),
        // Kafka Streams: a store's changelog, a windowed store's (InternalTopicConfig). Its topics for repartitioning are
        // no compacted ones; they are here for their settings.
        new Wanted("app-store-changelog", 3, settings("cleanup.policy", "compact", "message.timestamp.type", "CreateTime")),
        new Wanted("app-window-changelog", 3, settings("cleanup.policy", "compact,delete", "retention.ms", "86400000", "message.timestamp.type", "CreateTime")),
        new Wanted("app-repartition", 3, settings("cleanup.policy", "delete", "retention.ms", "-1", "message.timestamp.type", "CreateTime")),
        // Schema registries.
        new Wanted("_schemas", 1, settings("cleanup.policy", "compact")));

    static Map<String, Object> client(String bootstrap) {
        return new HashMap<>(Map.of("bootstrap.servers", bootstrap));
    }

    static void check(boolean good, String what) {
        if (!good) throw new AssertionError(what);
    }

    /** Every ninth key ends with a tombstone. */
    static String last(int key) {
        return key % 9 == 8 ? null : "v" + (ROUNDS - 1) + "-" + key;
    }

    static void write(String bootstrap) throws Exception {
        try (Admin admin = Admin.create(client(bootstrap))) {
            List<NewTopic> topics = new ArrayList<>();
            for (Wanted t : TOPICS) topics.add(new NewTopic(t.name, t.partitions, (short) 1).configs(t.settings));
            admin.createTopics(topics).all().get();
            for (Wanted t : TOPICS) {
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, t.name);
                Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                t.settings.forEach((name, value) -> check(config.get(name).value().equals(value), t.name + ": " + config.get(name)));
            }
        }
        Map<String, Object> settings = client(bootstrap);
        settings.putAll(Map.of("acks", "all", "enable.idempotence", true, "compression.type", "gzip", "linger.ms", 1));
        // Connect's source offsets and Streams' stores are written in transactions where exactly-once is asked for.
        Map<String, Object> transactional = new HashMap<>(settings);
        transactional.putAll(Map.of("transactional.id", "compacted", "compression.type", "none"));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
             var inTransactions = new KafkaProducer<>(transactional, new StringSerializer(), new StringSerializer())) {
            inTransactions.initTransactions();
            for (Wanted t : TOPICS) {
                boolean exactlyOnce = t.name.equals("connect-offsets") || t.name.equals("app-store-changelog");
                var writer = exactlyOnce ? inTransactions : producer;
                for (int round = 0; round < ROUNDS; round++) {
                    boolean isLast = round == ROUNDS - 1;
                    // Each third transaction is aborted, never the last.
                    boolean aborts = exactlyOnce && round % 3 == 1;
                    if (exactlyOnce) writer.beginTransaction();
                    for (int key = 0; key < KEYS; key++) {
                        String value = isLast ? last(key) : "v" + round + "-" + key;
                        writer.send(new ProducerRecord<>(t.name, "k" + key, value));
                    }
                    if (exactlyOnce && aborts) writer.abortTransaction();
                    if (exactlyOnce && !aborts) writer.commitTransaction();
                }
            }
            producer.flush();
            try {
                producer.send(new ProducerRecord<>("_schemas", null, "without a key")).get();
                check(false, "a record without a key was taken");
            } catch (java.util.concurrent.ExecutionException e) {
                check(e.getCause() instanceof InvalidRecordException, "" + e.getCause());
            }
        }
        System.out.println("written");
    }

    static void read(String bootstrap) {
        Map<String, Object> settings = client(bootstrap);
        settings.putAll(Map.of("isolation.level", "read_committed", "auto.offset.reset", "earliest"));
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            for (Wanted t : TOPICS) {
                List<TopicPartition> partitions = new ArrayList<>();
                for (int p = 0; p < t.partitions; p++) partitions.add(new TopicPartition(t.name, p));
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
                Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
                Map<String, String> table = new TreeMap<>();
                long records = 0, deadline = System.nanoTime() + 60_000_000_000L;
                while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                    check(System.nanoTime() < deadline, t.name + " has no end");
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                        records++;
                        if (record.value() == null) table.remove(record.key()); else table.put(record.key(), record.value());
                    }
                }
                Map<String, String> expected = new TreeMap<>();
                for (int key = 0; key < KEYS; key++) if (last(key) != null) expected.put("k" + key, last(key));
                check(table.equals(expected), t.name + " holds " + table);
                System.out.println(t.name + " " + records);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments[1].equals("write")) write(arguments[0]); else read(arguments[0]);
    }
}

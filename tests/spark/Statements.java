import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.spark.sql.SparkSession;

/**
 * Runs the SQL statements that come on standard input, one a line, in one session with Delta Lake. Answers each with a line
 * on standard output: "ok" and the rows as a JSON array, or "error" and its message.
 */
public class Statements {
  public static void main(String[] arguments) throws Exception {
    // What libraries print must not come between the answers.
    PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    SparkSession spark =
        SparkSession.builder()
            .master("local[2]")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.warehouse.dir", arguments[0])
            .config("spark.local.dir", arguments[0])
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.databricks.delta.snapshotPartitions", "2")
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            .config("spark.sql.jsonGenerator.ignoreNullFields", "false")
            .getOrCreate();
    spark.sparkContext().setLogLevel("ERROR");
    answers.println("ready " + spark.version());
    BufferedReader statements = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    String statement;
    while ((statement = statements.readLine()) != null) {
      try {
        List<String> rows = spark.sql(statement).toJSON().collectAsList();
        answers.println("ok [" + String.join(",", rows) + "]");
      } catch (Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
          text.append(text.length() == 0 ? "" : ": ").append(cause.getMessage());
        }
        answers.println("error " + text.toString().replace('\n', ' '));
      }
    }
    spark.stop();
  }
}

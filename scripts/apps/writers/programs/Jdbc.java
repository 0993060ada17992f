// @ title = "Xerial sqlite-jdbc (Debian)"
// @ apt = ["libxerial-sqlite-jdbc-java"]
// @ run = ["java", "-Dfile.encoding=UTF-8", "-cp", "/usr/share/java/sqlite-jdbc.jar", "{program}"]
// @ [modes]
// @ "wal" = "equal"
// @ "truncate" = "equal"
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.sql.*;

public class Jdbc {
    public static void main(String[] words) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Connection db = DriverManager.getConnection("jdbc:sqlite:" + words[0])) {
            DatabaseMetaData about = db.getMetaData();
            System.out.println("ready " + about.getDriverVersion() + " " + about.getDatabaseProductVersion());
            for (String line; (line = input.readLine()) != null; ) {
                try (Statement statement = db.createStatement()) {
                    statement.execute(line);
                    System.out.println("ok");
                } catch (SQLException error) {
                    System.out.println("error " + error.getMessage().replace('\n', ' '));
                }
            }
        }
    }
}

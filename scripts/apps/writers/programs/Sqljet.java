// @ title = "SQLJet (Debian), pure Java"
// @ apt = ["libsqljet-java", "libantlr3-runtime-java"]
// @ run = ["java", "-Dfile.encoding=UTF-8", "-cp", "/usr/share/java/sqljet.jar:/usr/share/java/antlr3-runtime.jar", "{program}"]
// @ [modes]
// @ "rollback" = "equal"
// @ "rollback later" = "equal"
// It has tables and cursors, and no SQL but for the schema: the workload's statements are taken apart here.
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.regex.*;
import org.tmatesoft.sqljet.core.SqlJetTransactionMode;
import org.tmatesoft.sqljet.core.table.*;

public class Sqljet {
    static final String VALUE = "NULL|X'[0-9a-f]*'|'(?:[^']|'')*'|-?[0-9.]+";
    static final Pattern EACH = Pattern.compile("(?:(\\w+) = )?(" + VALUE + ")");
    static final Pattern INSERT = Pattern.compile("INSERT INTO (\\w+)\\(([^)]*)\\) VALUES \\((.*)\\)");
    static final Pattern CHANGE = Pattern.compile("(?:UPDATE (\\w+) SET (.*)|DELETE FROM (\\w+)) WHERE (\\w+) = (" + VALUE + ")");
    static SqlJetDb db;

    public static void main(String[] words) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        db = SqlJetDb.open(new File(words[0]), true);
        System.out.println("ready 1.1.10 -");
        for (String line; (line = input.readLine()) != null; ) {
            try {
                run(line);
                System.out.println("ok");
            } catch (Exception error) {
                System.out.println("error " + String.valueOf(error).replace('\n', ' '));
            }
        }
        db.close();
    }

    static void run(String line) throws Exception {
        Matcher insert = INSERT.matcher(line), change = CHANGE.matcher(line);
        if (line.equals("BEGIN")) db.beginTransaction(SqlJetTransactionMode.WRITE);
        else if (line.equals("COMMIT")) db.commit();
        else if (line.equals("ROLLBACK")) db.rollback();
        else if (line.startsWith("CREATE TABLE")) db.createTable(line);
        else if (line.startsWith("ALTER TABLE")) db.alterTable(line);
        else if (line.startsWith("PRAGMA")) db.pragma(line);
        else if (insert.matches()) {
            List<Object> values = new ArrayList<>(values(insert.group(3)).values());
            Map<String, Object> row = new LinkedHashMap<>();
            for (String name : insert.group(2).split(", ")) row.put(name, values.get(row.size()));
            db.getTable(insert.group(1)).insertByFieldNames(row);
        } else if (change.matches()) {
            boolean alone = !db.isInTransaction(); // its cursors want a transaction
            if (alone) db.beginTransaction(SqlJetTransactionMode.WRITE);
            change(change);
            if (alone) db.commit();
        } else throw new UnsupportedOperationException(line.substring(0, Math.min(40, line.length())));
    }

    static void change(Matcher parts) throws Exception {
        ISqlJetTable table = db.getTable(parts.group(1) != null ? parts.group(1) : parts.group(3));
        Object key = values(parts.group(5)).values().iterator().next();
        boolean keyed = !table.getDefinition().getName().equals("entries");
        ISqlJetCursor found = keyed ? table.lookup(table.getPrimaryKeyIndexName(), key) : table.open();
        while (!found.eof()) {
            boolean here = keyed || key.equals(found.getValue(parts.group(4)));
            if (here && parts.group(1) == null) {
                found.delete();
                continue;
            }
            if (here) found.updateByFieldNames(values(parts.group(2)));
            found.next();
        }
        found.close();
    }

    static Map<String, Object> values(String text) {
        Map<String, Object> found = new LinkedHashMap<>();
        for (Matcher each = EACH.matcher(text); each.find(); )
            found.put(each.group(1) != null ? each.group(1) : "value " + found.size(), value(each.group(2)));
        return found;
    }

    static Object value(String text) {
        if (text.equals("NULL")) return null;
        if (text.startsWith("X")) return HexFormat.of().parseHex(text.substring(2, text.length() - 1));
        if (text.startsWith("'")) return text.substring(1, text.length() - 1).replace("''", "'");
        return text.contains(".") ? (Object) Double.valueOf(text) : (Object) Long.valueOf(text);
    }
}

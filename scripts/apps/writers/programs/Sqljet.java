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
    static final Pattern CHANGE = Pattern.compile("(?:UPDATE (\\w+) SET (.*)|DELETE FROM (\\w+)) WHERE (.*)");
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
            String[] names = insert.group(2).split(", ");
            if (names.length != values.size()) throw new UnsupportedOperationException("more than one row");
            Map<String, Object> row = new LinkedHashMap<>();
            for (String name : names) row.put(name, values.get(row.size()));
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
        Map<String, Object> keys = values(parts.group(4));
        String index = keys.containsKey("id") || keys.containsKey("word") ? table.getPrimaryKeyIndexName() : "";
        ISqlJetCursor found = "".equals(index) ? table.open() : table.lookup(index, keys.values().toArray());
        while (!found.eof()) {
            boolean here = true;
            for (String name : keys.keySet()) here &= keys.get(name).equals(found.getValue(name));
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

// Takes webhooks of Gancho: verifies them, stores them, and answers. README.md, one folder up, says what it keeps to.
//
//   mcs -r:System.Runtime.Serialization,System.Xml,System.Xml.Linq Receiver.cs
//   WEBHOOK_KEY='whsec_... whsec_...' STORE=received.log PORT=8080 mono Receiver.exe
//
// It keeps to what Mono, .NET Framework and .NET have in common. .NET's library has no ed25519: for v1a use the package NSec.Cryptography.
// Behind a proxy that keeps the name of its host, listen to http://*: instead of http://127.0.0.1:.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Xml;
using System.Xml.Linq;

public static class Receiver
{
    // Apply does what the event is for. After a crash it may be called again with the same event.
    static void Apply(Event e)
    {
        Console.WriteLine(e.Type + " " + e.Id); // what takes long belongs in a queue of your own
    }

    // Event is what the body has, or each element of the list that it is. Data has JSON as elements of XML; the text of a number has all its
    // digits: decimal.Parse(e.Data.Element("valor").Value, CultureInfo.InvariantCulture).
    public class Event
    {
        public string Type, Id, Tenant, Sequence;
        public DateTime Timestamp;
        public XElement Data;

        // Row names what the event is about: of one row, an older event is not applied after a newer one. Null: it has no order.
        public string Row()
        {
            string id = Text(Data, "id");
            return string.IsNullOrEmpty(Sequence) || id == null ? null : Tenant + "/" + Type.Split('.')[0] + "/" + id; // cobranca of cobranca.liquidada
        }
    }

    // Verify reports whether one signature fits one of the keys.
    static bool Verify(string[] keys, string id, string stamp, string signatures, byte[] body)
    {
        long seconds;
        if (id == null || signatures == null || !long.TryParse(stamp, NumberStyles.None, CultureInfo.InvariantCulture, out seconds)
            || Math.Abs((DateTime.UtcNow - new DateTime(1970, 1, 1)).TotalSeconds - seconds) > 300)
            return false;
        byte[] signed = Encoding.UTF8.GetBytes(id + "." + stamp + ".").Concat(body).ToArray();
        bool valid = false;
        foreach (string key in keys.Where(k => k.StartsWith("whsec_", StringComparison.Ordinal) && k.Length > "whsec_".Length))
        {
            using (var mac = new HMACSHA256(Convert.FromBase64String(key.Substring("whsec_".Length))))
            {
                string want = "v1," + Convert.ToBase64String(mac.ComputeHash(signed));
                foreach (string signature in signatures.Split(' '))
                    valid |= SameText(want, signature);
            }
        }
        return valid;
    }

    // SameText takes as long whatever differs. It is CryptographicOperations.FixedTimeEquals, which Mono does not have.
    static bool SameText(string a, string b)
    {
        int difference = a.Length ^ b.Length;
        for (int i = 0; i < a.Length && i < b.Length; i++)
            difference |= a[i] ^ b[i];
        return difference == 0;
    }

    // Decode reads a body: an event, or a list of them.
    static List<Event> Decode(byte[] body)
    {
        XElement read = XElement.Load(JsonReaderWriterFactory.CreateJsonReader(body, XmlDictionaryReaderQuotas.Max));
        var events = new List<Event>();
        foreach (XElement e in (string)read.Attribute("type") == "array" ? read.Elements() : new[] { read })
        {
            var one = new Event { Type = Text(e, "type"), Id = Text(e, "id"), Tenant = Text(e, "tenant"), Sequence = Text(e, "sequence"), Data = e.Element("data") };
            if (string.IsNullOrEmpty(one.Type) || string.IsNullOrEmpty(one.Id) || Text(e, "timestamp") == null)
                throw new FormatException("no type, id and timestamp: is the endpoint's format standard?");
            one.Timestamp = Time(Text(e, "timestamp"));
            events.Add(one);
        }
        return events;
    }

    static string Text(XElement parent, string name)
    {
        XElement e = parent == null ? null : parent.Element(name);
        return e == null || (string)e.Attribute("type") == "null" ? null : e.Value;
    }

    static DateTime Time(string text)
    {
        return DateTimeOffset.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal).UtcDateTime;
    }

    // Store is a file with a line for each request that brought something new, and what is known from it. It grows: a program that has a
    // database keeps two tables there instead, and applies events in the same transaction.
    class Store
    {
        class Receipt
        {
            public string Type;
            public DateTime At;
            public bool Replay; // it came for the first time because somebody asked for it
        }

        readonly FileStream file;
        readonly Dictionary<string, Receipt> received = new Dictionary<string, Receipt>(); // by webhook-id
        readonly Dictionary<string, string> sequences = new Dictionary<string, string>(); // of each row, the last that was applied

        // A last line without its end was not answered: it is cut off, and comes again.
        public Store(string path)
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
            byte[] content = File.ReadAllBytes(path);
            int end = 0;
            for (int next; (next = Array.IndexOf(content, (byte)'\n', end)) >= 0; end = next + 1)
            {
                int tab = Array.IndexOf(content, (byte)'\t', end);
                bool replay = Encoding.UTF8.GetString(content, end, tab - end) == "true";
                foreach (Event e in Decode(content.Skip(tab + 1).Take(next - tab - 1).ToArray()))
                    Take(e, replay);
            }
            file.SetLength(end);
            file.Seek(end, SeekOrigin.Begin);
            file.Flush(true);
        }

        // Take applies and stores the events of a request, and returns a line about each.
        public string Take(List<Event> events, bool replay, byte[] body)
        {
            lock (this)
            {
                var said = new List<string>();
                foreach (Event e in events)
                {
                    string outcome = Take(e, replay);
                    if (outcome == "applied")
                        Apply(e);
                    said.Add(outcome + "\n");
                }
                if (said.Any(outcome => outcome != "repeated\n"))
                {
                    // Within JSON, ends of lines are nowhere but between tokens.
                    byte[] line = body.Select(b => b == '\n' || b == '\r' ? (byte)' ' : b).ToArray();
                    line = Encoding.UTF8.GetBytes(replay ? "true\t" : "false\t").Concat(line).Concat(new[] { (byte)'\n' }).ToArray();
                    file.Write(line, 0, line.Length);
                    file.Flush(true);
                }
                return string.Concat(said);
            }
        }

        // Returns what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares.
        string Take(Event e, bool replay)
        {
            Receipt known;
            if (received.TryGetValue(e.Id, out known) && !replay)
                return "repeated"; // who asks for an event again wants it applied again
            received[e.Id] = new Receipt { Type = e.Type, At = e.Timestamp, Replay = replay && (known == null || known.Replay) };
            if (e.Type == "gancho.closing")
                return Compare(e.Data);
            string row = e.Row(), last;
            if (row == null) // it has no order
                return e.Type == "ping" || e.Type.StartsWith("gancho.", StringComparison.Ordinal) ? "taken" : "applied";
            if (sequences.TryGetValue(row, out last) && string.CompareOrdinal(e.Sequence, last) < 0)
                return "older";
            sequences[row] = e.Sequence;
            return "applied";
        }

        // Says whether what was received of a day is what was sent.
        string Compare(XElement closing)
        {
            DateTime from = Time(Text(closing, "from")), to = Time(Text(closing, "to"));
            var days = received
                .Where(r => r.Value.At >= from && r.Value.At < to && !r.Value.Type.StartsWith("gancho.", StringComparison.Ordinal) && r.Value.Type != "ping")
                .GroupBy(r => r.Value.Type, r => r.Key)
                .ToDictionary(day => day.Key, day => day.OrderBy(id => id, StringComparer.Ordinal).ToArray());
            var wrong = new List<string>();
            foreach (XElement sent in closing.Element("events").Elements())
            {
                string[] ids;
                if (!days.TryGetValue(Text(sent, "event"), out ids))
                    ids = new string[0];
                days.Remove(Text(sent, "event"));
                if (Digest(ids) != Text(sent, "digest"))
                    wrong.Add(Difference(Text(sent, "event"), Text(sent, "count"), ids));
            }
            foreach (var day in days)
                wrong.Add(Difference(day.Key, "0", day.Value));
            wrong.Sort(StringComparer.Ordinal);
            if (Text(closing, "complete") != "true")
                wrong.Add("the sender's log is not whole");
            return "closing " + Text(closing, "day") + ": " + (wrong.Count == 0 ? "agrees" : string.Join("; ", wrong));
        }

        string Difference(string type, string count, string[] ids)
        {
            return type + ": " + count + " sent, " + ids.Length + " received (" + ids.Count(id => received[id].Replay) + " on demand)";
        }

        static string Digest(string[] ids)
        {
            using (var sha256 = SHA256.Create())
                return string.Concat(sha256.ComputeHash(Encoding.UTF8.GetBytes(string.Join("\n", ids))).Select(b => b.ToString("x2")));
        }
    }

    const int Limit = 64 << 20;

    static void Handle(HttpListenerContext context, string[] keys, Store store)
    {
        HttpListenerRequest request = context.Request;
        if (request.Url.AbsolutePath != "/hooks")
        {
            Answer(context, 404, "not here\n");
            return;
        }
        if (request.HttpMethod != "POST")
        {
            Answer(context, 405, "POST only\n");
            return;
        }
        var read = new MemoryStream();
        var part = new byte[64 << 10];
        for (int n; read.Length <= Limit && (n = request.InputStream.Read(part, 0, part.Length)) > 0;)
            read.Write(part, 0, n); // a request need not say how long it is
        if (read.Length > Limit)
        {
            Answer(context, 413, "too large\n");
            return;
        }
        byte[] body = read.ToArray();
        if (!Verify(keys, request.Headers["webhook-id"], request.Headers["webhook-timestamp"], request.Headers["webhook-signature"], body))
        {
            Answer(context, 401, "no valid signature\n");
            return;
        }
        List<Event> events;
        try
        {
            events = Decode(body);
        }
        catch (Exception e)
        {
            Answer(context, 400, e.Message + "\n");
            return;
        }
        string outcome = null;
        try
        {
            outcome = store.Take(events, request.Headers["webhook-replay"] == "true", body);
        }
        catch (Exception e) // of the file, or of Apply
        {
            Console.Error.WriteLine("apply and store: " + e);
            Environment.Exit(1); // not answered, so it comes again; what is known is read from the file at the next start
        }
        if (outcome.Contains("closing "))
            Console.Error.Write(outcome); // alarm somebody when it does not agree
        Answer(context, 200, outcome);
    }

    static void Answer(HttpListenerContext context, int status, string text)
    {
        byte[] body = Encoding.UTF8.GetBytes(text);
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/plain; charset=utf-8";
        context.Response.ContentLength64 = body.Length;
        context.Response.OutputStream.Write(body, 0, body.Length);
        context.Response.Close();
    }

    public static void Main()
    {
        string[] keys = (Environment.GetEnvironmentVariable("WEBHOOK_KEY") ?? "").Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries);
        var store = new Store(Environment.GetEnvironmentVariable("STORE") ?? "received.log");
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + (Environment.GetEnvironmentVariable("PORT") ?? "8080") + "/");
        listener.Start();
        while (true)
        {
            HttpListenerContext context = listener.GetContext();
            ThreadPool.QueueUserWorkItem(delegate
            {
                try
                {
                    Handle(context, keys, store);
                }
                catch (Exception e)
                {
                    Console.Error.WriteLine(e);
                    context.Response.Abort(); // no answer: it comes again
                }
            });
        }
    }
}

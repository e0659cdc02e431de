// Receiver takes webhooks of Gancho: it verifies them, stores them, and answers. README.md, one folder up, says what it keeps to.
//
//	WEBHOOK_KEY='whsec_... whsec_...' STORE=received.log PORT=8080 go run receiver.go
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// apply does what the event is for. After a crash it may be called again with the same event.
func apply(e event) {
	fmt.Println(e.Type, e.ID) // what takes long belongs in a queue of your own
}

// row names what the event is about: of one row, an older event is not applied after a newer one. Empty: it has no order.
func (e event) row() string {
	var data struct{ ID json.RawMessage }
	if e.Sequence == "" || json.Unmarshal(e.Data, &data) != nil || data.ID == nil || string(data.ID) == "null" {
		return ""
	}
	object, _, _ := strings.Cut(e.Type, ".") // cobranca of cobranca.liquidada
	return e.Tenant + "/" + object + "/" + strings.Trim(string(data.ID), `"`)
}

// event is what the body has, or each element of the list that it is.
type event struct {
	Type, ID, Tenant, Sequence string
	Timestamp                  time.Time
	Data                       json.RawMessage // decode it with UseNumber, which keeps the digits
}

// verify reports whether one signature fits one of the keys.
func verify(keys []string, h http.Header, body []byte) bool {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	signed := append([]byte(id+"."+stamp+"."), body...)
	for _, key := range keys {
		kind, encoded, _ := strings.Cut(key, "_")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) == 0 {
			continue
		}
		for _, part := range strings.Fields(h.Get("webhook-signature")) {
			version, text, _ := strings.Cut(part, ",")
			signature, err := base64.StdEncoding.DecodeString(text)
			switch {
			case err != nil:
			case version == "v1" && kind == "whsec":
				mac := hmac.New(sha256.New, raw)
				mac.Write(signed)
				if hmac.Equal(mac.Sum(nil), signature) {
					return true
				}
			case version == "v1a" && kind == "whpk" && len(raw) == ed25519.PublicKeySize:
				if ed25519.Verify(raw, signed, signature) {
					return true
				}
			}
		}
	}
	return false
}

// store is a file with a line for each request that brought something new, and what is known from it. It grows: a program that has a
// database keeps two tables there instead, and applies events in the same transaction.
type store struct {
	mu        sync.Mutex
	file      *os.File
	received  map[string]receipt // by webhook-id
	sequences map[string]string  // of each row, the last that was applied
}

type receipt struct {
	event  string
	at     time.Time
	replay bool // it came for the first time because somebody asked for it
}

// openStore reads the file. A last line without its end was not answered: it is cut off, and comes again.
func openStore(path string) (*store, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	s := &store{file: f, received: map[string]receipt{}, sequences: map[string]string{}}
	end := int64(0)
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		end += int64(len(line))
		replay, body, _ := bytes.Cut(line, []byte("\t"))
		events, err := decode(body)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		for _, e := range events {
			s.takeLocked(e, string(replay) == "true")
		}
	}
	if err := f.Truncate(end); err != nil {
		return nil, err
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return nil, err
	}
	return s, f.Sync()
}

// take applies and stores the events of a request, and returns a line about each.
func (s *store) take(events []event, replay bool, body []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var said strings.Builder
	fresh := false
	for _, e := range events {
		outcome := s.takeLocked(e, replay)
		fresh = fresh || outcome != "repeated"
		if outcome == "applied" {
			apply(e)
		}
		fmt.Fprintln(&said, outcome)
	}
	if !fresh {
		return said.String(), nil
	}
	// Within JSON, ends of lines are nowhere but between tokens.
	line := fmt.Sprintf("%t\t%s\n", replay, strings.NewReplacer("\n", " ", "\r", " ").Replace(string(body)))
	if _, err := s.file.WriteString(line); err != nil {
		return "", err
	}
	return said.String(), s.file.Sync()
}

// takeLocked returns what the event is: repeated, older, applied, taken (a ping, a notice) or how a closing compares.
func (s *store) takeLocked(e event, replay bool) string {
	known, repeated := s.received[e.ID]
	if repeated && !replay { // who asks for an event again wants it applied again
		return "repeated"
	}
	s.received[e.ID] = receipt{e.Type, e.Timestamp, replay && (!repeated || known.replay)}
	if e.Type == "gancho.closing" {
		return s.compare(e.Data)
	}
	row := e.row()
	switch {
	case row == "" && (e.Type == "ping" || strings.HasPrefix(e.Type, "gancho.")):
		return "taken"
	case row == "": // it has no order
		return "applied"
	case e.Sequence < s.sequences[row]:
		return "older"
	}
	s.sequences[row] = e.Sequence
	return "applied"
}

// compare says whether what was received of a day is what was sent.
func (s *store) compare(data []byte) string {
	var closing struct {
		Day      string
		From, To time.Time
		Complete bool
		Events   []struct {
			Event  string
			Count  int
			Digest string
		}
	}
	if err := json.Unmarshal(data, &closing); err != nil {
		return "closing: " + err.Error()
	}
	ids, demanded := map[string][]string{}, map[string]int{}
	for id, r := range s.received {
		if r.at.Before(closing.From) || !r.at.Before(closing.To) || strings.HasPrefix(r.event, "gancho.") || r.event == "ping" {
			continue
		}
		ids[r.event] = append(ids[r.event], id)
		if r.replay {
			demanded[r.event]++
		}
	}
	var wrong []string
	for _, sent := range closing.Events {
		of := ids[sent.Event]
		delete(ids, sent.Event)
		slices.Sort(of)
		digest := sha256.Sum256([]byte(strings.Join(of, "\n")))
		if hex.EncodeToString(digest[:]) != sent.Digest {
			wrong = append(wrong, fmt.Sprintf("%s: %d sent, %d received (%d on demand)", sent.Event, sent.Count, len(of), demanded[sent.Event]))
		}
	}
	for name, of := range ids {
		wrong = append(wrong, fmt.Sprintf("%s: 0 sent, %d received (%d on demand)", name, len(of), demanded[name]))
	}
	slices.Sort(wrong)
	if !closing.Complete {
		wrong = append(wrong, "the sender's log is not whole")
	}
	return "closing " + closing.Day + ": " + cmp.Or(strings.Join(wrong, "; "), "agrees")
}

// decode reads a body: an event, or a list of them.
func decode(body []byte) (events []event, err error) {
	body = bytes.TrimSpace(body)
	if !bytes.HasPrefix(body, []byte("[")) {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Type == "" || e.ID == "" || e.Timestamp.IsZero() {
			return nil, errors.New("no type, id and timestamp: is the endpoint's format standard?")
		}
	}
	return events, nil
}

func main() {
	keys := strings.Fields(os.Getenv("WEBHOOK_KEY"))
	s, err := openStore(cmp.Or(os.Getenv("STORE"), "received.log"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /hooks", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if !verify(keys, r.Header, body) {
			http.Error(w, "no valid signature", http.StatusUnauthorized)
			return
		}
		events, err := decode(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer func() { // net/http would go on after a panic of apply, with events known that were not applied
			if p := recover(); p != nil {
				log.Fatal("apply: ", p)
			}
		}()
		outcome, err := s.take(events, r.Header.Get("webhook-replay") == "true", body)
		if err != nil {
			log.Fatal("write the store: ", err) // not answered, so it comes again; what is known is read from the file at the next start
		}
		if strings.Contains(outcome, "closing ") {
			log.Print(outcome) // alarm somebody when it does not agree
		}
		_, _ = fmt.Fprint(w, outcome)
	})
	server := http.Server{Addr: "127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "8080"), ReadTimeout: time.Minute}
	log.Fatal(server.ListenAndServe())
}

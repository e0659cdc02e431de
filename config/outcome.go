package config

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"gancho/internal/strictyaml"
)

// decode reads batch: {max, wait, per}.
func (b *Batch) decode(v value) {
	v.Map(
		strictyaml.Required("max", func(v value) { b.Max = v.Int(2, maxBatch) }),
		strictyaml.Optional("wait", func(v value) { b.Wait = v.Duration(0, maxBatchWait) }),
		strictyaml.Optional("per", func(v value) { b.PerTransaction = v.Choice("transaction") != "" }),
	)
}

// decodeSuccess reads success: {status, body}, of which one must be there.
func decodeSuccess(v value) Success {
	var s Success
	v.Map(
		strictyaml.Optional("status", func(v value) {
			for _, item := range v.ListOrOne() {
				s.Status = append(s.Status, decodeStatus(item))
			}
			if v.IsList() && len(s.Status) == 0 {
				v.Errorf("write such as [200, 202-204]", "no status would count as success")
			}
		}),
		strictyaml.Optional("body", func(v value) { s.Body = decodeRegexp(v) }),
	)
	if v.IsMap() && len(v.Entries()) == 0 {
		v.Errorf("write status, body or both, or remove the key", "success says nothing")
	}
	return s
}

// decodeStatus reads a status, or a range of them such as 200-204. 1xx are not
// answers yet, and 3xx would have to be followed.
func decodeStatus(v value) [2]int {
	text := v.Text()
	if text == "" {
		return [2]int{}
	}
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	lo, err := strconv.Atoi(from)
	hi, err2 := strconv.Atoi(to)
	switch {
	case err != nil || err2 != nil || len(from) != 3 || len(to) != 3 || lo < 100 || hi > 599:
		v.Errorf("write such as 200 or 200-204", "%q is not a status", text)
	case lo > hi:
		v.Errorf("write "+to+"-"+from, "the range %s is empty", text)
	case lo < 200 || lo < 400 && hi >= 300:
		v.Errorf("2xx, 4xx and 5xx may count as success", "%s has statuses that are no answer (1xx) or lead elsewhere (3xx)", text)
	}
	return [2]int{lo, hi}
}

func decodeRegexp(v value) string {
	text := v.Text()
	if _, err := regexp.Compile(text); err != nil {
		v.Errorf("quote it with ' in YAML, so that \\ stays as it is", "the pattern is not a regular expression (RE2): %s",
			strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return text
}

// decodePauseAfter reads a duration or never, which is a negative one.
func decodePauseAfter(v value) time.Duration {
	if v.IsScalar() && v.Raw() == never {
		return -1
	}
	return v.Duration(minAge, maxAge)
}

const never = "never"

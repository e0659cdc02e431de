package ruletest

import (
	"encoding/xml"
	"fmt"
	"io"
)

// WriteJUnit writes the results as JUnit's XML, a suite for each file.
func (r *Run) WriteJUnit(w io.Writer) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		File    string   `xml:"file,attr"`
		Line    int      `xml:"line,attr"`
		Failure *failure `xml:"failure"`
	}
	type suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	out := struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Suites   []*suite `xml:"testsuite"`
	}{Tests: len(r.Results), Failures: r.Failed()}
	for _, result := range r.Results {
		c := result.Case
		n := len(out.Suites)
		if n == 0 || out.Suites[n-1].Name != c.File {
			out.Suites = append(out.Suites, &suite{Name: c.File})
			n++
		}
		s := out.Suites[n-1]
		s.Tests++
		one := testcase{Class: c.File, Name: c.Name, File: c.File, Line: c.Line}
		if f := result.Failure; f != nil {
			s.Failures++
			one.Failure = &failure{f.Message, f.String()}
		}
		s.Cases = append(s.Cases, one)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

package pgtext_test

import (
	"testing"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

func benchValues() []struct {
	name string
	typ  *cdc.Type
	text string
} {
	base := func(oid uint32, name string) *cdc.Type { return &cdc.Type{OID: oid, Name: name, Kind: cdc.KindBase} }
	return []struct {
		name string
		typ  *cdc.Type
		text string
	}{
		{"int4", base(23, "int4"), "123456"},
		{"numeric", base(1700, "numeric"), "1234.50"},
		{"text", base(25, "text"), "Maria Aparecida dos Santos"},
		{"accents", base(1043, "varchar"), "João da Conceição Araújo"},
		{"bpchar", base(1042, "bpchar"), "AT        "},
		{"date", base(1082, "date"), "2026-01-31"},
		{"timestamp", base(1114, "timestamp"), "2026-07-01 12:34:56.789123"},
		{"timestamptz", base(1184, "timestamptz"), "2026-07-01 12:34:56.789123+00"},
		{"bool", base(16, "bool"), "t"},
		{"jsonb", base(3802, "jsonb"), `{"cep": "01310100", "numero": 1578, "bairro": "Bela Vista"}`},
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	loc := location(b, "America/Sao_Paulo")
	for _, v := range benchValues() {
		b.Run(v.name, func(b *testing.B) {
			options := &pgtext.JSONOptions{Location: loc}
			text, dst := []byte(v.text), make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = pgtext.AppendJSON(dst[:0], v.typ, -1, text, options); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("row", func(b *testing.B) {
		options := &pgtext.JSONOptions{Location: loc}
		values := benchValues()
		texts := make([][]byte, len(values))
		for i, v := range values {
			texts[i] = []byte(v.text)
		}
		dst := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			dst = dst[:0]
			for i := range values {
				var err error
				if dst, err = pgtext.AppendJSON(dst, values[i].typ, -1, texts[i], options); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	loc := location(b, "America/Sao_Paulo")
	stamp, zoned, day := []byte("2026-07-01 12:34:56.789123"), []byte("2026-07-01 12:34:56.789123+00"), []byte("2026-07-01")
	for name, f := range map[string]func() error{
		"date":        func() error { _, err := pgtext.ParseDate(day); return err },
		"timestamp":   func() error { _, err := pgtext.ParseTimestamp(stamp); return err },
		"timestamptz": func() error { _, err := pgtext.ParseTimestampTZ(zoned, loc); return err },
		"local": func() error {
			ts, err := pgtext.ParseTimestamp(stamp)
			pgtext.LocalToUTC(ts, loc)
			return err
		},
		"interval": func() error { _, err := pgtext.ParseInterval([]byte("1 mon 3 days 04:05:06")); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestHotPathsDoNotAllocate holds what the benchmarks show.
func TestHotPathsDoNotAllocate(t *testing.T) {
	options := &pgtext.JSONOptions{Location: location(t, "America/Sao_Paulo")}
	dst := make([]byte, 0, 1024)
	for _, v := range benchValues() {
		text := []byte(v.text)
		if n := testing.AllocsPerRun(100, func() { dst, _ = pgtext.AppendJSON(dst[:0], v.typ, -1, text, options) }); n != 0 {
			t.Errorf("%s: %v allocations", v.name, n)
		}
	}
	elem := &cdc.Type{OID: 25, Name: "text", Kind: cdc.KindBase}
	array := &cdc.Type{OID: 1009, Name: "_text", Kind: cdc.KindArray, Elem: elem}
	text := []byte(`{a,"b \"c\"",NULL,"d\\e"}`)
	if n := testing.AllocsPerRun(100, func() { dst, _ = pgtext.AppendJSON(dst[:0], array, -1, text, options) }); n != 0 {
		t.Errorf("array: %v allocations", n)
	}
	stamp := []byte("2026-07-01 12:34:56.789123")
	if n := testing.AllocsPerRun(100, func() {
		ts, _ := pgtext.ParseTimestamp(stamp)
		dst = pgtext.AppendTimestampTZ(dst[:0], pgtext.LocalToUTC(ts, options.Location), options.Location)
	}); n != 0 {
		t.Errorf("timestamp: %v allocations", n)
	}
}

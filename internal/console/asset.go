package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets templates
var files embed.FS

// assets are the style sheet, the modules and the logo, by name. Their addresses have their version, so that a browser keeps them.
type assets map[string]asset

type asset struct {
	body  []byte
	small []byte // gzip of it; pages are sent as they are, as some have what only their reader may know (BREACH)
	media string
	hash  string
}

func newAssets(b *Brand) assets {
	media := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".LICENSE": "text/plain; charset=utf-8"}
	out := assets{}
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, e := range entries {
		body, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		out.add(e.Name(), body, media[path.Ext(e.Name())])
	}
	if b.Color != "" { // the policy allows no style in a page
		css := out["console.css"]
		out.add("console.css", append(bytes.Clone(css.body), ":root{--brand:"+b.Color+"}\n"...), css.media)
	}
	if b.Logo != nil {
		out.add("logo", b.Logo, b.LogoType)
	}
	return out
}

func (a assets) add(name string, body []byte, media string) {
	hash := sha256.Sum256(body)
	a[name] = asset{body, compressed(body), media, hex.EncodeToString(hash[:6])}
}

func compressed(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// url is the address of an asset.
func (a assets) url(name string) string { return root + "assets/" + name + "?v=" + a[name].hash }

// ServeHTTP answers with an asset.
func (a assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := a[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Get("v") == found.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", found.media)
	w.Header().Set("Vary", "Accept-Encoding")
	body := found.body
	if len(found.small) < len(body) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		body = found.small
	}
	_, _ = w.Write(body) // an error means that the browser has gone
}

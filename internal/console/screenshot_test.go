package console_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/browser"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

var screenshots = flag.String("screenshots", "", "the directory that screenshots of each page are written to, for docs/console.md")

// maxScreenshot is how many bytes a screenshot may have: they are in the repository.
const maxScreenshot = 60_000

// The pictures of docs/console.md, which has every page in every language: with -screenshots they are drawn, and the page shows them.
func TestScreenshots(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	shown := map[string]bool{}
	var gallery bytes.Buffer
	for _, tenant := range []string{"", centro.id} {
		site := w.as(state.Admin, tenant).crawl()
		pictures := site.pictures(shown)
		for _, code := range language.Codes() {
			if *screenshots == "" && (tenant != "" || code != language.Portuguese) {
				continue // one shows that they can be drawn
			}
			p := chromium.Page(t, browser.Options{Width: 1100, Height: 720, Language: string(code)})
			w.enter(p, state.Admin, tenant, code)
			for _, at := range pictures {
				p.Open(w.url + at.path)
				at.save(t, small(t, p.View()), code)
				if *screenshots == "" {
					break
				}
			}
		}
		for _, at := range pictures {
			shown[at.name] = true
			fmt.Fprintf(&gallery, "| ![%[1]s](console/%[1]s.pt-BR.png) | ![%[1]s](console/%[1]s.en.png) |\n", at.name)
		}
	}
	showGallery(t, gallery.String())
}

// showGallery compares what the documentation shows with what there is, or has it show that.
func showGallery(t *testing.T, want string) {
	t.Helper()
	const file, begin = "../../docs/console.md", "| Português | English |\n|---|---|\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	has, after, _ := strings.Cut(rest+"\n", "\n\n")
	has += "\n"
	switch {
	case !found:
		t.Fatalf("%s has no table of screenshots", file)
	case *screenshots != "":
		if err := os.WriteFile(file, []byte(before+begin+want+"\n"+strings.TrimSuffix(after, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	case has != want:
		t.Errorf("%s does not show the pages that there are; `make screenshots` changes that:\n%s", file, cmp.Diff(has, want))
	}
}

type picture struct{ name, path string }

func (p *picture) save(t *testing.T, png []byte, code language.Code) {
	t.Helper()
	if len(png) > maxScreenshot {
		t.Errorf("the picture of %s has %d bytes, more than %d", p.path, len(png), maxScreenshot)
	}
	if *screenshots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screenshots, p.name+"."+string(code)+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pictures are the fullest page of each route, of those that are not shown yet.
func (s *site) pictures(shown map[string]bool) (all []picture) {
	for _, r := range routes() {
		pages, name := s.pages["GET "+r.Path], pictureName(r.Path)
		if shown[name] || r.Method != http.MethodGet || len(pages) == 0 {
			continue
		}
		fullest := slices.MaxFunc(slices.Sorted(maps.Keys(pages)), func(a, b string) int { return len(pages[a]) - len(pages[b]) })
		all = append(all, picture{name, fullest})
	}
	return all
}

// pictureName is the route's without what stands for an object: /console/endpoints/{name} is endpoints-name.
func pictureName(path string) string {
	name := strings.Trim(strings.TrimPrefix(strings.TrimSuffix(path, "{$}"), "/console"), "/")
	if name == "" {
		return "dashboard"
	}
	return strings.NewReplacer("/", "-", "{", "", "}", "", ".", "").Replace(name)
}

// small is a picture with the colors that it has most of, of which text needs few, as PNG.
func small(t *testing.T, raw []byte) []byte {
	t.Helper()
	whole, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	size := whole.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			c, _ := color.RGBAModel.Convert(whole.At(x, y)).(color.RGBA)
			count[c]++
		}
	}
	const colors = 48
	byCount := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var palette color.Palette
	for _, c := range byCount[:min(colors, len(byCount))] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(size, palette)
	draw.Draw(few, size, whole, size.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

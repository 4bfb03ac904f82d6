<?xml version='1.0' encoding='UTF-8'?>
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Renders a ProtoXEP as one HTML page: xsltproc html.xsl mls.xml > mls.html -->
<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'>
  <xsl:output method='html' encoding='UTF-8' indent='no' doctype-system='about:legacy-compat'/>

  <xsl:template match='/xep'>
    <html lang='en'>
      <head>
        <meta name='viewport' content='width=device-width, initial-scale=1'/>
        <title><xsl:value-of select='header/title'/></title>
        <style>
          body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
          h1, h2, h3, h4 { line-height: 1.2 }
          pre { background: #f4f4f1; border-left: 3px solid #7a7a6c; padding: .7rem; overflow-x: auto; font-size: 13px; line-height: 1.4 }
          table { border-collapse: collapse; margin: 1rem 0 } th, td { border: 1px solid #bbb; padding: .3rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere }
          .box { border: 1px solid #7a7a6c; padding: .5rem .8rem } .caption { font-weight: 600; margin-bottom: .2rem }
          nav ol { list-style: none; padding-left: 1.2rem } dt { font-weight: 600 } footer, .meta { color: #555 }
        </style>
      </head>
      <body>
        <h1><xsl:value-of select='header/title'/></h1>
        <p><xsl:value-of select='header/abstract'/></p>
        <p class='meta'>
          <xsl:value-of select='header/status'/>, <xsl:value-of select='header/type'/>, version
          <xsl:value-of select='header/revision[1]/version'/> of <xsl:value-of select='header/revision[1]/date'/>.
          Depends on <xsl:for-each select='header/dependencies/spec'><xsl:if test='position() &gt; 1'>, </xsl:if><xsl:value-of select='.'/></xsl:for-each>.
        </p>
        <nav>
          <h2>Contents</h2>
          <ol><xsl:apply-templates select='section1' mode='toc'/></ol>
        </nav>
        <xsl:apply-templates select='section1'/>
        <footer>
          <h2>Legal notices</h2>
          <xsl:for-each select='header/legal/*'><p><xsl:apply-templates/></p></xsl:for-each>
          <xsl:if test='//note'>
            <h2>Notes</h2>
            <ol>
              <xsl:for-each select='//note'>
                <li id='note-{count(preceding::note) + 1}'><xsl:apply-templates select='node()'/></li>
              </xsl:for-each>
            </ol>
          </xsl:if>
        </footer>
      </body>
    </html>
  </xsl:template>

  <xsl:template match='section1|section2' mode='toc'>
    <li>
      <xsl:number level='multiple' count='section1|section2' format='1.1. '/>
      <a href='#{@anchor}'><xsl:value-of select='@topic'/></a>
      <xsl:if test='section2'><ol><xsl:apply-templates select='section2' mode='toc'/></ol></xsl:if>
    </li>
  </xsl:template>

  <xsl:template name='number'><xsl:number level='multiple' count='section1|section2|section3|section4' format='1.1. '/></xsl:template>
  <xsl:template match='section1'><h2 id='{@anchor}'><xsl:call-template name='number'/><xsl:value-of select='@topic'/></h2><xsl:apply-templates/></xsl:template>
  <xsl:template match='section2'><h3 id='{@anchor}'><xsl:call-template name='number'/><xsl:value-of select='@topic'/></h3><xsl:apply-templates/></xsl:template>
  <xsl:template match='section3|section4'><h4 id='{@anchor}'><xsl:call-template name='number'/><xsl:value-of select='@topic'/></h4><xsl:apply-templates/></xsl:template>

  <xsl:template match='example'>
    <p class='caption' id='example-{count(preceding::example) + 1}'>Example <xsl:value-of select='count(preceding::example) + 1'/>. <xsl:value-of select='@caption'/></p>
    <pre><xsl:value-of select='.'/></pre>
  </xsl:template>
  <xsl:template match='code'>
    <xsl:if test='@caption'><p class='caption'><xsl:value-of select='@caption'/></p></xsl:if>
    <pre><xsl:value-of select='.'/></pre>
  </xsl:template>

  <xsl:template match='table'>
    <xsl:if test='@caption'><p class='caption'><xsl:value-of select='@caption'/></p></xsl:if>
    <table><xsl:apply-templates/></table>
  </xsl:template>
  <xsl:template match='dl'><dl><xsl:apply-templates/></dl></xsl:template>
  <xsl:template match='di'><xsl:apply-templates/></xsl:template>
  <xsl:template match='link'><a href='{@url}'><xsl:apply-templates/></a></xsl:template>
  <xsl:template match='cite'><em><xsl:apply-templates/></em></xsl:template>
  <xsl:template match='note'><sup><a href='#note-{count(preceding::note) + 1}'><xsl:value-of select='count(preceding::note) + 1'/></a></sup></xsl:template>
  <xsl:template match='p|span|strong|em|tt|br|ol|ul|li|dt|dd|tr|th|td'>
    <xsl:element name='{name()}'><xsl:copy-of select='@class|@colspan|@rowspan|@id'/><xsl:apply-templates/></xsl:element>
  </xsl:template>
</xsl:stylesheet>
